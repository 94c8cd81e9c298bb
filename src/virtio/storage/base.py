"""What a disk is made of, as the rest of pyvirtio sees it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from virtio.closing import Closing
from virtio.errors import StorageSizeError
from virtio.storage.backend import Backend, PythonBackend

__all__ = ["SECTOR", "Storage"]

SECTOR = 512


class Storage(Closing):
    """A row of bytes that can be read and written; a disk's contents.

    Subclass it in plain Python by writing `read`, and `write` unless it is read-only; `flush`, `discard` and
    `write_zeroes` as far as there is something to do. They may be called from several threads at a time, and
    answer for the guest: raise OSError (its errno is logged) and the guest sees an I/O error. ::

        class Rot13(virtio.storage.Storage):
            def __init__(self, path: str) -> None:
                self.text = codecs.encode(Path(path).read_text(), "rot13").encode()
                super().__init__(len(self.text), read_only=True)

            def read(self, offset: int, buffer: memoryview) -> None:
                buffer[:] = self.text[offset : offset + len(buffer)]

    Offsets and lengths are bytes, multiples of 512 and inside ``size`` when a device calls.

    Attributes: ``size`` in bytes, rounded down to whole sectors of 512; ``read_only``; ``name``, how messages
    call it; ``logical_block_size`` and ``physical_block_size``, hints for the guest, in bytes;
    ``alignment``, what requests should be multiples of to be served without a detour;
    ``discard_granularity``, in bytes.
    """

    logical_block_size: int = SECTOR
    physical_block_size: int = SECTOR
    alignment: int = SECTOR
    discard_granularity: int = SECTOR

    def __init__(self, size: int, *, read_only: bool = False, name: str = "") -> None:
        if size < SECTOR:
            raise StorageSizeError(
                f"{name or 'the storage'} has {size} bytes, less than a sector of {SECTOR}"
            )
        self.size = size - size % SECTOR
        self.read_only = read_only
        self.name = name or type(self).__name__
        self._watchers: list[Callable[[int], None]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.size} bytes>"

    @property
    def fd(self) -> int | None:
        """The file descriptor whose bytes these are, if there is one."""
        return None

    @property
    def can_discard(self) -> bool:
        """Whether `discard` gives space back."""
        return type(self).discard is not Storage.discard

    @property
    def can_write_zeroes(self) -> bool:
        """Whether `write_zeroes` is faster than writing zeroes."""
        return type(self).write_zeroes is not Storage.write_zeroes

    @cached_property
    def backend(self) -> Backend:
        """The compiled face of this storage, which the data path uses."""
        return PythonBackend(self)

    def read(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset`` on."""
        raise NotImplementedError

    def write(self, offset: int, data: memoryview) -> None:
        """Store ``data`` at ``offset``."""
        raise NotImplementedError

    def flush(self) -> None:
        """Return once everything written before is on stable storage."""

    def discard(self, offset: int, length: int) -> None:
        """Forget ``length`` bytes; what they read as afterwards is not defined."""

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:
        """Make ``length`` bytes read as zeroes; with ``unmap`` their space may be given back."""
        zeroes = memoryview(bytes(min(length, 1 << 20)))
        for position in range(offset, offset + length, len(zeroes) or 1):
            self.write(position, zeroes[: offset + length - position])

    def refresh(self) -> int:
        """Look again how large the storage is, after someone else changed it. The size in bytes."""
        return self.size

    def resize(self, size: int) -> None:
        """Make the storage ``size`` bytes; a device on it tells its guest. StorageSizeError."""
        raise StorageSizeError(f"{self.name} cannot be resized")

    def on_resize(self, watcher: Callable[[int], None]) -> None:
        """Call ``watcher(size)`` whenever the size changes: before a shrink, after a growth."""
        self._watchers.append(watcher)

    def set_size(self, size: int) -> None:
        """Take note of a new size in bytes and tell the watchers; what `refresh` and `resize` end with."""
        size -= size % self.alignment
        if size == self.size:
            return
        self.size = size
        for watcher in self._watchers:
            watcher(size)

    def close(self) -> None:
        """Let go of what the storage holds. Its device must have been closed before."""


def checked_size(size: int, name: str) -> int:
    """``size`` if a storage can be resized to it, else StorageSizeError."""
    if size < SECTOR or size % SECTOR:
        raise StorageSizeError(f"{name} cannot have {size} bytes: not a positive multiple of {SECTOR}")
    return size
