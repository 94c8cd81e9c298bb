"""``mem:SIZE``: a disk in memory, gone when the program ends."""

from __future__ import annotations

import mmap
import os
from functools import cached_property

from virtio.errors import StorageSizeError
from virtio.storage.backend import MemoryBackend
from virtio.storage.base import checked_size
from virtio.storage.native import NativeStorage

__all__ = ["MemoryStorage"]

#: Address space kept free for growth, in bytes. Untouched pages of it take no memory.
ROOM = 1 << 36


class MemoryStorage(NativeStorage):
    """A memfd, mapped once with room to grow, so that a resize moves nothing under a running guest."""

    can_discard = True
    can_write_zeroes = True
    discard_granularity = mmap.PAGESIZE

    def __init__(self, size: int, *, read_only: bool = False, name: str = "") -> None:
        super().__init__(size, read_only=read_only, name=name or f"mem:{size}")
        self._fd = os.memfd_create("virtio-mem", os.MFD_CLOEXEC)
        try:
            self._mapping = self._map()
        except (OSError, ValueError, OverflowError) as error:
            os.close(self._fd)
            raise StorageSizeError(f"no address space for {size} bytes of memory: {error}") from error

    def _map(self) -> mmap.mmap:
        """The memfd is as large as its mapping; ``size`` alone says how much of it is the disk."""
        room = max(self.size * 2, ROOM)
        try:
            os.ftruncate(self._fd, room)
            return mmap.mmap(self._fd, room)
        except OSError:
            os.ftruncate(self._fd, self.size)  # a limit on address space: no growth then
            return mmap.mmap(self._fd, self.size)

    @property
    def fd(self) -> int:
        """The memfd; larger than ``size``."""
        return self._fd

    @cached_property
    def backend(self) -> MemoryBackend:
        """The compiled side."""
        return MemoryBackend(self._fd, self._mapping)

    def resize(self, size: int) -> None:
        """Make the disk ``size`` bytes; what is cut off is gone, what is added is zero."""
        old = self.size
        if checked_size(size, self.name) > len(self._mapping):
            raise StorageSizeError(f"{self.name} can grow to {len(self._mapping)} bytes at most")
        self.set_size(size)
        if size < old:
            self.backend.zero_range(size, old - size, True)

    def close(self) -> None:
        """Drop the contents, once the last device on it is gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
