"""How bytes move between guest memory and storage: what the block engine calls, without the GIL."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from posix.uio cimport iovec


# Copy `length` bytes between scattered segments, after their first `skip` bytes, and one run of memory.
cdef void scatter(const iovec *segments, int count, uint64_t skip, const char *source,
                  uint64_t length) noexcept nogil
cdef void gather(const iovec *segments, int count, uint64_t skip, char *target, uint64_t length) noexcept nogil
# The part of `segments` after the first `skip` bytes, at most `capacity` segments of it. Their number.
cdef int window(const iovec *segments, int count, uint64_t skip, iovec *found, int capacity) noexcept nogil


cdef enum Operation:
    READ
    WRITE
    FLUSH
    DISCARD
    ZERO
    DURABLE_WRITE           # where it makes a difference


cdef class Backend:
    """Moves bytes for any number of queues at once; the methods may be called from several threads.

    Offsets and lengths are bytes, multiples of 512 and inside the storage: the caller has checked.
    Errors are negative errno values.
    """
    # At once or not at all: bytes moved from the first on (perhaps fewer than asked), -EAGAIN where that
    # would mean waiting, or an error. Called on the queue's own thread.
    cdef int64_t attempt_read(self, const iovec *segments, int count, uint64_t offset,
                              uint64_t length) noexcept nogil
    cdef int64_t attempt_write(self, const iovec *segments, int count, uint64_t offset,
                               uint64_t length) noexcept nogil
    # Taking the time it takes, and wholly: 0 or an error. `durable`: on stable storage before returning.
    cdef int read(self, const iovec *segments, int count, uint64_t offset, uint64_t length) noexcept nogil
    cdef int write(self, const iovec *segments, int count, uint64_t offset, uint64_t length,
                   bint durable) noexcept nogil
    cdef int flush(self) noexcept nogil
    cdef int discard(self, uint64_t offset, uint64_t length) noexcept nogil
    cdef int zero(self, uint64_t offset, uint64_t length, bint unmap) noexcept nogil
    # For system calls that someone else makes (io_uring): the file descriptor on which a single one does all
    # of this, or -1. If it is not -1, `end` must follow once the call is over, on the same thread.
    cdef int begin(self, Operation operation, const iovec *segments, int count, uint64_t offset,
                   uint64_t length) noexcept nogil
    cdef void end(self, Operation operation, uint64_t offset, uint64_t length) noexcept nogil
    # A read or write of this range is next but one: bring what is in memory of it nearer. May do nothing.
    cdef void hint(self, uint64_t offset, uint64_t length) noexcept nogil
    # True if flush, discard and zero never wait, so that they are called on the queue's own thread too.
    cdef readonly bint immediate


cdef class NullBackend(Backend):
    pass


cdef class MemoryBackend(Backend):
    cdef object mapping
    cdef const uint8_t[::1] view
    cdef char *base
    cdef uint64_t mapped
    cdef int fd


cdef class PythonBackend(Backend):
    cdef object storage
    cdef int call(self, Operation operation, const iovec *segments, int count, uint64_t offset, uint64_t length,
                  bint flag) noexcept with gil
