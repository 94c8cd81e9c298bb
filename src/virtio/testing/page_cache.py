"""What the page cache holds of a file (cachestat, Linux 6.5)."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import NamedTuple

__all__ = ["PageCache", "is_in_memory", "page_cache"]

CACHESTAT = 451  # the same number on all architectures but alpha
PARAMETERS = ctypes.c_uint64 * 2
RESULTS = ctypes.c_uint64 * 5
TMPFS_MAGIC = 0x01021994
UNTOLD = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


class PageCache(NamedTuple):
    """Pages of a range: in the cache, of these not yet on the medium, of these on their way to it."""

    cached: int
    dirty: int
    writeback: int
    evicted: int
    recently_evicted: int


def is_in_memory(fd: int) -> bool:
    """Whether a file's system has no medium (tmpfs)."""
    kind = (ctypes.c_long * 32)()  # struct statfs, of which the first field is the type
    return ctypes.CDLL(None).fstatfs(fd, ctypes.byref(kind)) == 0 and kind[0] == TMPFS_MAGIC


def page_cache(fd: int, offset: int = 0, length: int = 0) -> PageCache | None:
    """Of ``length`` bytes from ``offset`` on (0: to the end); None where the kernel does not tell.

    Nor where there is nothing to tell: a file system in memory has no medium.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if is_in_memory(fd):
        return None
    wanted, found = PARAMETERS(offset, length), RESULTS()
    if libc.syscall(CACHESTAT, fd, ctypes.byref(wanted), ctypes.byref(found), 0) == 0:
        return PageCache(*found)
    code = ctypes.get_errno()
    if code in UNTOLD:
        return None
    raise OSError(code, os.strerror(code))
