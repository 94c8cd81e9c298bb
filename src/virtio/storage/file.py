"""A path, or ``file:PATH?direct=on&read-only=on&lock=off&format=raw&map=off``: an image or a block device."""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import stat
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from virtio.errors import (
    StorageDirectError,
    StorageError,
    StorageKindError,
    StorageLockedError,
    StorageMissingError,
    StoragePermissionError,
    StorageSizeError,
)
from virtio.storage import blockdev
from virtio.storage.base import SECTOR, checked_size
from virtio.storage.file_backend import DirectBackend, FileBackend
from virtio.storage.formats import refuse_formats
from virtio.storage.lock import holders
from virtio.storage.lock import lock as lock_file
from virtio.storage.mapped_backend import MappedBackend
from virtio.storage.native import NativeStorage
from virtio.storage.residence import mappable

__all__ = ["FileStorage"]

logger = logging.getLogger("virtio.storage")


class FileStorage(NativeStorage):
    """An image file or a block device.

    ``direct`` opens it past the page cache (O_DIRECT). ``lock`` keeps others from writing it meanwhile, or
    from using it at all when it is writable. A file that begins like an image of another format is refused,
    unless it is to be served as the bytes it is (``any_format``). ``map`` lets the page cache be reached
    through a mapping of the file where that is known not to wait, on file systems where it is safe; it
    changes nothing but the speed, and what counts as resident memory. A size that is no multiple of the block
    is rounded down, with a warning: the last bytes are not reachable. Raises a subclass of StorageError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        direct: bool = False,
        lock: bool = True,
        map: bool = True,
        any_format: bool = False,
    ) -> None:
        self.path = Path(path)
        self.direct = direct
        self._map = map
        self._fd = _open(self.path, read_only=read_only, direct=direct, lock=lock)
        try:
            if not any_format:
                refuse_formats(self.path)
            self._adopt(read_only=read_only, lock=lock)
        except BaseException:
            self.close()
            raise

    def _adopt(self, *, read_only: bool, lock: bool) -> None:
        name = str(self.path)
        self.is_block_device = stat.S_ISBLK(os.fstat(self._fd).st_mode)
        if lock:
            lock_file(self._fd, name, exclusive=not read_only)
        if self.is_block_device:
            limits = blockdev.limits(self._fd)
            self.logical_block_size = limits.logical_block_size
            self.physical_block_size = limits.physical_block_size
            self.discard_granularity = limits.discard_granularity or SECTOR
        else:
            self.physical_block_size = max(SECTOR, min(os.fstat(self._fd).st_blksize, 4096))
            self.discard_granularity = self.physical_block_size
        if self.direct:
            self.alignment = self.logical_block_size = _direct_alignment(self._fd)
        size = os.lseek(self._fd, 0, os.SEEK_END)
        super().__init__(size, read_only=read_only, name=name)
        self.size = self._whole(size)
        self._discards = not read_only and self._probe_discard(size)

    def _whole(self, size: int) -> int:
        if rest := size % self.alignment:
            logger.warning(
                "%s: its last %d bytes are no whole block of %d and are not served",
                self.path, rest, self.alignment,
            )  # fmt: skip
        if size < self.alignment:
            raise StorageSizeError(f"{self.path} has {size} bytes, less than a block of {self.alignment}")
        return size - rest

    def _probe_discard(self, size: int) -> bool:
        """Punch a hole behind the end of the file, where there is nothing to lose."""
        if self.is_block_device:
            return blockdev.limits(self._fd).discard_max > 0
        try:
            self.backend.discard_range(-(-size // 4096) * 4096, 4096)
        except OSError:
            return False
        return True

    @property
    def fd(self) -> int:
        """The open file."""
        return self._fd

    @property
    def can_discard(self) -> bool:
        """Whether the file system or device gives space back."""
        return self._discards

    @property
    def can_write_zeroes(self) -> bool:
        """Where discards work, so do zeroes without data."""
        return self._discards

    @cached_property
    def backend(self) -> FileBackend:
        """The compiled side."""
        if self.direct:
            return DirectBackend(self._fd, self.is_block_device, self.alignment)
        if self._map and not self.is_block_device and mappable(self._fd):
            try:
                return MappedBackend(self._fd)
            except OSError as error:
                logger.warning("%s is not mapped: %s", self.path, error.strerror)
        return FileBackend(self._fd, self.is_block_device)

    def refresh(self) -> int:
        """Take over the size the file or device has now. The size in bytes."""
        size = os.lseek(self._fd, 0, os.SEEK_END)
        self.set_size(self._whole(size))
        return self.size

    def resize(self, size: int) -> None:
        """Make the file ``size`` bytes. A block device is resized by its own tools, then `refresh` helps."""
        if self.read_only or self.is_block_device:
            kind = "a block device" if self.is_block_device else "read-only"
            raise StorageSizeError(f"{self.path} cannot be resized: it is {kind}")
        if checked_size(size, self.name) % self.alignment:
            raise StorageSizeError(f"{self.path}: {size} is not a multiple of its block of {self.alignment}")
        shrinks = size < self.size
        if shrinks:
            self.set_size(size)
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            self.refresh()
            raise StorageSizeError(f"{self.path} cannot have {size} bytes: {error.strerror}") from error
        self.set_size(size)

    def set_size(self, size: int) -> None:
        """As for any storage; what the file grew by is mapped first."""
        if isinstance(self.backend, MappedBackend):
            self.backend.fit()
        super().set_size(size)

    def close(self) -> None:
        """Close the file and release its lock."""
        if isinstance(backend := self.__dict__.get("backend"), MappedBackend):
            backend.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: Path, *, read_only: bool, direct: bool, lock: bool) -> int:
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK
    if direct:
        flags |= os.O_DIRECT
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            raise StorageKindError(f"{path} is {_kind(kind)}, not a disk image or a block device")
        if stat.S_ISBLK(kind) and lock and not read_only:
            flags |= os.O_EXCL  # the kernel's own lock: refuses what is mounted
        fd = os.open(path, flags)
    except OSError as error:
        raise _refusal(path, error, read_only=read_only, direct=direct) from error
    # Who read a disk's file last is nobody's question, yet every read would ask it. Owners only may say so.
    with suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NOATIME)
    return fd


def _refusal(path: Path, error: OSError, *, read_only: bool, direct: bool) -> StorageError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO):
        return StorageMissingError(f"{path} does not exist")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY):
        access = "read" if read_only else "written"
        return StoragePermissionError(f"{path} cannot be {access}: {error.strerror}")
    if error.errno == errno.EBUSY:
        return StorageLockedError(
            f"{path} is in use by {', '.join(_users(path)) or 'the host, perhaps mounted'}"
        )
    if error.errno == errno.EINVAL and direct:
        return StorageDirectError(f"the file system of {path} does not do direct I/O")
    return StorageError(f"{path} cannot be opened: {error.strerror}")


def _users(path: Path) -> list[str]:
    """Who has locked a device that the kernel says is in use."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return holders(fd)
    finally:
        os.close(fd)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFCHR: "a character device", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a socket")


def _direct_alignment(fd: int) -> int:
    """512 if the medium takes offsets, lengths and memory in multiples of that, else 4096."""
    with mmap.mmap(-1, 8192) as memory, memoryview(memory) as view, view[512:1024] as part:
        try:
            os.preadv(fd, [part], 512)
        except OSError:
            return 4096
    return SECTOR
