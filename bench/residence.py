"""Files that are in the page cache, held there and checked, and files that are not."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Self

PAGE = mmap.PAGESIZE
BLOCK = 1 << 20
FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
for _name in ("mlock", "munmap"):
    getattr(_libc, _name).argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def make_file(path: Path, size: int) -> None:
    """A file of random bytes with all its blocks allocated, and on the medium alone.

    What is in the page cache later was read in, as with a disk's image that was there before: a file just
    written may be cached in huge folios, where ext4 takes forty microseconds for any small write of anyone's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    block = os.urandom(BLOCK)
    with path.open("wb") as file:
        for _ in range(size // BLOCK):
            file.write(block)
    drop(path)


def settle(path: Path) -> None:
    """Write back what is dirty, so that it is not done while the next is measured."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def drop(path: Path) -> None:
    """Have the page cache let go of a file."""
    settle(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


class Resident:
    """A file whose pages are in the page cache: ``held`` there by a lock, where the limits allow it.

    Some kernels take pages away that nobody touched for a few seconds, though memory is free. Locked ones
    they leave. Where `mlock` is refused, `ensure` reads what is missing, and `missing` tells afterwards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        fd = os.open(path, os.O_RDONLY)
        try:
            # Private: the kernel need not look at this mapping when it writes pages back.
            self._base = _libc.mmap(None, self.size, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
        finally:
            os.close(fd)
        if self._base == FAILED:
            raise OSError(ctypes.get_errno(), f"{path} cannot be mapped")
        self.held = _libc.mlock(self._base, self.size) == 0
        self.ensure()

    def missing(self) -> int:
        """Pages that are not in the page cache."""
        pages = -(-self.size // PAGE)
        found = ctypes.create_string_buffer(pages)
        if _libc.mincore(self._base, self.size, found) != 0:
            raise OSError(ctypes.get_errno(), f"nobody says what of {self.path} is resident")
        raw = found.raw[:pages]
        return pages - sum(raw.translate(_LOW_BIT))

    def ensure(self) -> None:
        """Read the file unless all of it is there."""
        if not self.missing():
            return
        with self.path.open("rb", buffering=0) as file:
            while file.read(BLOCK):
                pass

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._base is not None:
            _libc.munmap(self._base, self.size)
            self._base = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_LOW_BIT = bytes(value & 1 for value in range(256))
