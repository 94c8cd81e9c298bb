"""Files and block devices: vectored system calls straight on guest memory."""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import EAGAIN, EINTR, EINVAL, EIO, ENOMEM, ENOTTY, EOPNOTSUPP, errno
from cython.cimports.libc.stdint import int64_t, uint64_t, uintptr_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.storage import linux
from cython.cimports.virtio.storage.backend import (
    DISCARD,
    DURABLE_WRITE,
    FLUSH,
    READ,
    WRITE,
    gather,
    scatter,
    window,
)


class FileBackend(Backend):
    """A file or block device through the page cache."""

    def __init__(self, fd: int, block_device: bool) -> None:
        status = cython.declare(linux.Statfs)
        self.fd = fd
        self.block_device = block_device
        self.read_flags = linux.RWF_NOWAIT
        if linux.fstatfs(fd, cython.address(status)) == 0 and status.f_type in (
            linux.TMPFS_MAGIC,
            linux.RAMFS_MAGIC,
        ):
            self.read_flags = 0

    def attempt_read(self, segments, count, offset, length):
        done: int64_t
        if self.patient or count > linux.IOV_MAX:
            return -EAGAIN
        while True:
            done = linux.preadv2(self.fd, segments, count, offset, self.read_flags)
            if done > 0:
                return done
            if done == 0:
                return -EAGAIN  # the end of the file, or nothing resident: `read` finds out which
            if errno == EOPNOTSUPP:
                self.patient = True
                return -EAGAIN
            if errno != EINTR:
                return -errno

    def attempt_write(self, segments, count, offset, length):
        done: int64_t
        if count > linux.IOV_MAX:
            return -EAGAIN
        while True:
            done = linux.pwritev2(self.fd, segments, count, offset, 0)
            if done > 0:
                return done
            if done == 0:
                return -EIO
            if errno != EINTR:
                return -errno

    def begin(self, operation, segments, count, offset, length):
        """Not a durable write: the kernel does those to one file one by one, where threads share a commit."""
        if operation == DURABLE_WRITE:
            return -1
        return self.single(operation, count)

    def single(self, operation, count):
        """The file descriptor if one system call other than an ioctl does it, or -1."""
        if count > linux.IOV_MAX or (operation == DISCARD and self.block_device):
            return -1
        return self.fd

    def read(self, segments, count, offset, length):
        return self.transfer(False, segments, count, offset, length, 0)

    def write(self, segments, count, offset, length, durable):
        return self.put(segments, count, offset, length, linux.RWF_DSYNC if durable else 0)

    def put(self, segments, count, offset, length, flags):
        return self.transfer(True, segments, count, offset, length, flags)

    def transfer(self, writing, segments, count, offset, length, flags):
        part: iovec[64]
        current: cython.pointer[cython.const[iovec]] = segments
        done: uint64_t = 0
        moved: int64_t
        if count > linux.IOV_MAX:
            count_now: cython.int = window(segments, count, 0, part, 64)
            current = part
        else:
            count_now = count
        while done < length:
            if writing:
                moved = linux.pwritev2(self.fd, current, count_now, offset + done, flags)
            else:
                moved = linux.preadv2(self.fd, current, count_now, offset + done, 0)
            if moved > 0:
                done += moved
                if done < length:
                    count_now = window(segments, count, done, part, 64)
                    current = part
            elif moved == 0:
                return -EIO  # the file ended early: someone else truncated it
            elif errno != EINTR:
                return -errno
        return 0

    def flush(self):
        while linux.fdatasync(self.fd) != 0:
            if errno != EINTR:
                return -errno
        return 0

    def discard(self, offset, length):
        span: uint64_t[2]
        mode: cython.int = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE
        if length == 0:
            return 0
        if not self.block_device:
            return 0 if linux.fallocate(self.fd, mode, offset, length) == 0 else -errno
        span[0] = offset
        span[1] = length
        return 0 if linux.ioctl(self.fd, linux.BLKDISCARD, span) == 0 else -errno

    def zero(self, offset, length, unmap):
        if length == 0:
            return 0
        mode: cython.int = linux.FALLOC_FL_ZERO_RANGE
        if unmap:
            mode = linux.FALLOC_FL_PUNCH_HOLE
        mode |= linux.FALLOC_FL_KEEP_SIZE
        if linux.fallocate(self.fd, mode, offset, length) == 0:
            return 0
        if errno in (EOPNOTSUPP, ENOTTY, EINVAL):
            return self.fill(offset, length)
        return -errno

    def fill(self, offset, length):
        """Write zeroes, where no faster way exists."""
        memory: cython.p_void = cython.NULL
        segment = cython.declare(iovec)
        size: uint64_t = 1 << 16
        result: cython.int = 0
        if linux.posix_memalign(cython.address(memory), 4096, size) != 0:
            return -ENOMEM
        memset(memory, 0, size)
        segment.iov_base = memory
        while length > 0 and result == 0:
            segment.iov_len = size if size < length else length
            result = self.put(cython.address(segment), 1, offset, segment.iov_len, 0)
            offset += segment.iov_len
            length -= segment.iov_len
        free(memory)
        return result


class DirectBackend(FileBackend):
    """The same past the page cache (O_DIRECT); what is not aligned goes through a buffer that is.

    Sectors smaller than the medium's blocks are written by reading the blocks at both ends, changing them and
    writing them back. `edges` keeps such writes apart from all others: a reader's lock for whole blocks, the
    writer's for parts. Writers are preferred, or a stream of whole blocks would keep them out for good. Who
    holds a reader's lock, from `begin` to `end`, must not wait for any of the two meanwhile.
    """

    def __cinit__(self) -> None:
        attributes = cython.declare(pthread_rwlockattr_t)
        pthread_rwlockattr_init(cython.address(attributes))
        pthread_rwlockattr_setkind_np(
            cython.address(attributes), PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP
        )
        pthread_rwlock_init(cython.address(self.edges), cython.address(attributes))

    def __init__(self, fd: int, block_device: bool, alignment: int) -> None:
        FileBackend.__init__(self, fd, block_device)
        self.alignment = alignment

    def __dealloc__(self) -> None:
        pthread_rwlock_destroy(cython.address(self.edges))

    def attempt_read(self, segments, count, offset, length):
        return -EAGAIN

    def attempt_write(self, segments, count, offset, length):
        return -EAGAIN

    def begin(self, operation, segments, count, offset, length):
        """Whole blocks only. The reader's lock is held until `end`, where there may be parts of blocks."""
        if operation == FLUSH:
            return self.fd
        if operation in (READ, WRITE, DURABLE_WRITE):
            if not self.aligned(segments, count, offset, length):
                return -1
        elif (offset | length) & (self.alignment - 1):
            return -1
        # No waiting here, and no getting in the way of a writer that waits: the lock prefers those.
        if self.locks(operation) and pthread_rwlock_tryrdlock(cython.address(self.edges)) != 0:
            return -1
        fd: cython.int = self.single(operation, count)
        if fd < 0:
            self.end(operation, offset, length)
        return fd

    def end(self, operation, offset, length):
        if self.locks(operation):
            pthread_rwlock_unlock(cython.address(self.edges))

    def locks(self, operation):
        """Whether such a change holds the lock while the kernel is at it."""
        return operation not in (READ, FLUSH) and self.alignment > SECTOR

    def read(self, segments, count, offset, length):
        if self.aligned(segments, count, offset, length):
            return self.transfer(False, segments, count, offset, length, 0)
        return self.bounce(False, segments, count, offset, length, 0)

    def write(self, segments, count, offset, length, durable):
        self.enter(offset | length)
        result: cython.int = self.put(segments, count, offset, length, linux.RWF_DSYNC if durable else 0)
        pthread_rwlock_unlock(cython.address(self.edges))
        return result

    def discard(self, offset, length):
        self.enter(offset | length)
        result: cython.int = FileBackend.discard(self, offset, length)
        pthread_rwlock_unlock(cython.address(self.edges))
        return result

    def zero(self, offset, length, unmap):
        self.enter(offset | length)
        result: cython.int = FileBackend.zero(self, offset, length, unmap)
        pthread_rwlock_unlock(cython.address(self.edges))
        return result

    def enter(self, bits):
        """Begin a change that touches parts of blocks if ``bits`` has any below the alignment."""
        if bits & (self.alignment - 1):
            pthread_rwlock_wrlock(cython.address(self.edges))
        else:
            pthread_rwlock_rdlock(cython.address(self.edges))

    def put(self, segments, count, offset, length, flags):
        if self.aligned(segments, count, offset, length):
            return self.transfer(True, segments, count, offset, length, flags)
        return self.bounce(True, segments, count, offset, length, flags)

    def aligned(self, segments, count, offset, length):
        i: cython.int
        bits: uint64_t = offset | length
        for i in range(count):
            bits |= cython.cast(uintptr_t, segments[i].iov_base) | segments[i].iov_len
        return bits & (self.alignment - 1) == 0

    def bounce(self, writing, segments, count, offset, length, flags):
        """Move the blocks around the request through an aligned buffer, a piece at a time."""
        memory: cython.p_void = cython.NULL
        step: uint64_t
        result: cython.int = 0
        done: uint64_t = 0
        if linux.posix_memalign(cython.address(memory), 4096, PIECE) != 0:
            return -ENOMEM
        block: cython.p_char = cython.cast(cython.p_char, memory)
        while done < length and result == 0:
            # A piece ends on a block boundary, so that only the first and the last are partial.
            step = PIECE - ((offset + done) & (self.alignment - 1))
            if step > length - done:
                step = length - done
            if writing:
                result = self.patch(block, segments, count, done, offset + done, step, flags)
            else:
                result = self.extract(block, segments, count, done, offset + done, step)
            done += step
        free(memory)
        return result

    def extract(self, block, segments, count, skip, offset, length):
        edge: uint64_t = offset & (self.alignment - 1)
        result: cython.int = self.blocks(False, block, offset, length, 0)
        if result == 0:
            scatter(segments, count, skip, block + edge, length)
        return result

    def patch(self, block, segments, count, skip, offset, length, flags):
        edge: uint64_t = offset & (self.alignment - 1)
        result: cython.int = 0
        if (offset | length) & (self.alignment - 1):
            result = self.blocks(False, block, offset, length, 0)
        if result == 0:
            gather(segments, count, skip, block + edge, length)
            result = self.blocks(True, block, offset, length, flags)
        return result

    def blocks(self, writing, block, offset, length, flags):
        """Transfer the whole blocks that hold the range."""
        segment = cython.declare(iovec)
        mask: uint64_t = self.alignment - 1
        start: uint64_t = offset & ~mask
        segment.iov_base = block
        segment.iov_len = ((offset + length + mask) & ~mask) - start
        return self.transfer(writing, cython.address(segment), 1, start, segment.iov_len, flags)
