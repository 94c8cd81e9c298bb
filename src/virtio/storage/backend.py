"""Backends that need no file: nothing at all, memory, and any object written in plain Python.

The block engine calls the methods that the ``.pxd`` declares, without the GIL. ``read_into`` and its like
are the same for callers in Python.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.libc.errno import EAGAIN, EIO, EOPNOTSUPP, errno
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.storage import linux

logger = logging.getLogger("virtio.storage")


def scatter(segments, count, skip, source, length):
    i: cython.int
    size: uint64_t
    for i in range(count):
        if length == 0:
            return
        if skip >= segments[i].iov_len:
            skip -= segments[i].iov_len
            continue
        size = segments[i].iov_len - skip
        if size > length:
            size = length
        memcpy(cython.cast(cython.p_char, segments[i].iov_base) + skip, source, size)
        skip = 0
        source += size
        length -= size


def gather(segments, count, skip, target, length):
    i: cython.int
    size: uint64_t
    for i in range(count):
        if length == 0:
            return
        if skip >= segments[i].iov_len:
            skip -= segments[i].iov_len
            continue
        size = segments[i].iov_len - skip
        if size > length:
            size = length
        memcpy(target, cython.cast(cython.p_char, segments[i].iov_base) + skip, size)
        skip = 0
        target += size
        length -= size


def window(segments, count, skip, found, capacity):
    i: cython.int
    n: cython.int = 0
    for i in range(count):
        if skip >= segments[i].iov_len:
            skip -= segments[i].iov_len
            continue
        if n == capacity:
            break
        found[n].iov_base = cython.cast(cython.p_char, segments[i].iov_base) + skip
        found[n].iov_len = segments[i].iov_len - skip
        skip = 0
        n += 1
    return n


@cython.cfunc
def check(result: cython.longlong) -> object:
    """Raise OSError for a negative errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))


class Backend:
    """Moves a storage's bytes; the base of every way to do it."""

    def read_into(self, offset: int, buffer: Any) -> None:
        """Fill ``buffer`` from byte ``offset`` on. OSError on failure."""
        view: cython.uchar[::1] = buffer
        segment = cython.declare(iovec)
        start: uint64_t = offset
        result: cython.int
        if view.shape[0] == 0:
            return
        segment.iov_base = cython.address(view[0])
        segment.iov_len = view.shape[0]
        with cython.nogil:
            result = self.read(cython.address(segment), 1, start, segment.iov_len)
        check(result)

    def write_from(self, offset: int, data: Any, durable: bool = False) -> None:
        """Store ``data`` at byte ``offset``; ``durable`` returns only once it is on stable storage."""
        view: cython.const[cython.uchar][::1] = data
        segment = cython.declare(iovec)
        start: uint64_t = offset
        sync: cython.bint = durable
        result: cython.int
        if view.shape[0] == 0:
            return
        segment.iov_base = cython.cast(cython.p_void, cython.address(view[0]))
        segment.iov_len = view.shape[0]
        with cython.nogil:
            result = self.write(cython.address(segment), 1, start, segment.iov_len, sync)
        check(result)

    def attempt_read_into(self, offset: int, buffer: Any) -> int:
        """Fill ``buffer`` as far as that is possible at once: bytes read. BlockingIOError where it is not."""
        view: cython.uchar[::1] = buffer
        segment = cython.declare(iovec)
        start: uint64_t = offset
        done: int64_t
        if view.shape[0] == 0:
            return 0
        segment.iov_base = cython.address(view[0])
        segment.iov_len = view.shape[0]
        with cython.nogil:
            done = self.attempt_read(cython.address(segment), 1, start, segment.iov_len)
        check(done)
        return done

    def attempt_write_from(self, offset: int, data: Any) -> int:
        """Store what can be stored at once of ``data``: bytes written. BlockingIOError if nothing can."""
        view: cython.const[cython.uchar][::1] = data
        segment = cython.declare(iovec)
        start: uint64_t = offset
        done: int64_t
        if view.shape[0] == 0:
            return 0
        segment.iov_base = cython.cast(cython.p_void, cython.address(view[0]))
        segment.iov_len = view.shape[0]
        with cython.nogil:
            done = self.attempt_write(cython.address(segment), 1, start, segment.iov_len)
        check(done)
        return done

    def sync(self) -> None:
        """Return once all that was written is on stable storage."""
        result: cython.int
        with cython.nogil:
            result = self.flush()
        check(result)

    def discard_range(self, offset: int, length: int) -> None:
        """Give ``length`` bytes back to the host; what they read as afterwards is not defined."""
        start: uint64_t = offset
        size: uint64_t = length
        result: cython.int
        with cython.nogil:
            result = self.discard(start, size)
        check(result)

    def zero_range(self, offset: int, length: int, unmap: bool = False) -> None:
        """Make ``length`` bytes read as zeroes, giving their space back if ``unmap``."""
        start: uint64_t = offset
        size: uint64_t = length
        release: cython.bint = unmap
        result: cython.int
        with cython.nogil:
            result = self.zero(start, size, release)
        check(result)

    def attempt_read(self, segments, count, offset, length):
        return -EAGAIN

    def attempt_write(self, segments, count, offset, length):
        return -EAGAIN

    def begin(self, operation, segments, count, offset, length):
        return -1

    def end(self, operation, offset, length):
        pass

    def hint(self, offset, length):
        pass

    def read(self, segments, count, offset, length):
        return -EOPNOTSUPP

    def write(self, segments, count, offset, length, durable):
        return -EOPNOTSUPP

    def flush(self):
        return 0

    def discard(self, offset, length):
        return -EOPNOTSUPP

    def zero(self, offset, length, unmap):
        return -EOPNOTSUPP


class NullBackend(Backend):
    """Says yes to everything and touches nothing: what remains is the cost of the rings."""

    def __init__(self) -> None:
        self.immediate = True

    def attempt_read(self, segments, count, offset, length):
        return length

    def attempt_write(self, segments, count, offset, length):
        return length

    def read(self, segments, count, offset, length):
        return 0

    def write(self, segments, count, offset, length, durable):
        return 0

    def discard(self, offset, length):
        return 0

    def zero(self, offset, length, unmap):
        return 0


class MemoryBackend(Backend):
    """Copies between guest memory and a shared mapping that stays as large as it is."""

    def __init__(self, fd: int, mapping: Any) -> None:
        self.immediate = True
        self.fd = fd
        self.mapping = mapping
        self.view = mapping
        self.base = cython.cast(cython.p_char, cython.address(self.view[0]))
        self.mapped = self.view.shape[0]

    def attempt_read(self, segments, count, offset, length):
        result: cython.int = self.read(segments, count, offset, length)
        return result if result < 0 else cython.cast(int64_t, length)

    def attempt_write(self, segments, count, offset, length):
        result: cython.int = self.write(segments, count, offset, length, False)
        return result if result < 0 else cython.cast(int64_t, length)

    def read(self, segments, count, offset, length):
        if offset > self.mapped or length > self.mapped - offset:
            return -EIO
        scatter(segments, count, 0, self.base + offset, length)
        return 0

    def write(self, segments, count, offset, length, durable):
        if offset > self.mapped or length > self.mapped - offset:
            return -EIO
        gather(segments, count, 0, self.base + offset, length)
        return 0

    def discard(self, offset, length):
        if length == 0:
            return 0
        mode: cython.int = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE
        return 0 if linux.fallocate(self.fd, mode, offset, length) == 0 else -errno

    def zero(self, offset, length, unmap):
        if unmap:
            return self.discard(offset, length)
        if offset > self.mapped or length > self.mapped - offset:
            return -EIO
        memset(self.base + offset, 0, length)
        return 0


class PythonBackend(Backend):
    """Calls the methods of a Storage written in plain Python, with one buffer of its own a request.

    The buffer is a copy, so that a storage may keep it: guest memory can be unmapped at any time.
    """

    def __init__(self, storage: Any) -> None:
        self.storage = storage

    def read(self, segments, count, offset, length):
        return self.call(Operation.READ, segments, count, offset, length, False)

    def write(self, segments, count, offset, length, durable):
        return self.call(Operation.WRITE, segments, count, offset, length, durable)

    def flush(self):
        return self.call(Operation.FLUSH, cython.NULL, 0, 0, 0, False)

    def discard(self, offset, length):
        return self.call(Operation.DISCARD, cython.NULL, 0, offset, length, False)

    def zero(self, offset, length, unmap):
        return self.call(Operation.ZERO, cython.NULL, 0, offset, length, unmap)

    def call(self, operation, segments, count, offset, length, flag):
        try:
            if operation == Operation.READ:
                buffer = bytearray(length)
                self.storage.read(offset, memoryview(buffer))
                scatter(segments, count, 0, PyByteArray_AS_STRING(buffer), length)
            elif operation == Operation.WRITE:
                buffer = bytearray(length)
                gather(segments, count, 0, PyByteArray_AS_STRING(buffer), length)
                self.storage.write(offset, memoryview(buffer).toreadonly())
                if flag:
                    self.storage.flush()
            elif operation == Operation.FLUSH:
                self.storage.flush()
            elif operation == Operation.DISCARD:
                self.storage.discard(offset, length)
            else:
                self.storage.write_zeroes(offset, length, unmap=bool(flag))
        except OSError as error:
            return -error.errno if error.errno else -EIO
        except Exception:
            logger.exception("%r failed", self.storage)
            return -EIO
        return 0
