"""File descriptors as storage: through the page cache, or past it."""

from libc.stdint cimport uint64_t
from posix.uio cimport iovec

from virtio.storage.backend cimport Backend, Operation

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_rwlock_t:
        pass
    ctypedef struct pthread_rwlockattr_t:
        pass
    int pthread_rwlockattr_init(pthread_rwlockattr_t *attributes)
    int pthread_rwlockattr_setkind_np(pthread_rwlockattr_t *attributes, int kind)
    const int PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP
    int pthread_rwlock_init(pthread_rwlock_t *lock, pthread_rwlockattr_t *attributes)
    int pthread_rwlock_tryrdlock(pthread_rwlock_t *lock)
    int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
    int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
    int pthread_rwlock_unlock(pthread_rwlock_t *lock)
    int pthread_rwlock_destroy(pthread_rwlock_t *lock)

cdef enum:
    SECTOR = 512            # what requests are multiples of
    PIECE = 1 << 20         # bytes of a bounce buffer; a multiple of every block size


cdef class FileBackend(Backend):
    cdef readonly int fd
    cdef readonly bint block_device
    cdef int read_flags     # RWF_NOWAIT, or 0 where reads never wait
    cdef bint patient       # no RWF_NOWAIT here: every read is left to the threads
    cdef int transfer(self, bint writing, const iovec *segments, int count, uint64_t offset, uint64_t length,
                      int flags) noexcept nogil
    cdef int put(self, const iovec *segments, int count, uint64_t offset, uint64_t length,
                 int flags) noexcept nogil
    cdef int fill(self, uint64_t offset, uint64_t length) noexcept nogil
    cdef int single(self, Operation operation, int count) noexcept nogil


cdef class DirectBackend(FileBackend):
    cdef readonly uint64_t alignment
    cdef pthread_rwlock_t edges
    cdef void enter(self, uint64_t bits) noexcept nogil
    cdef bint locks(self, Operation operation) noexcept nogil
    cdef bint aligned(self, const iovec *segments, int count, uint64_t offset, uint64_t length) noexcept nogil
    cdef int bounce(self, bint writing, const iovec *segments, int count, uint64_t offset, uint64_t length,
                    int flags) noexcept nogil
    cdef int extract(self, char *block, const iovec *segments, int count, uint64_t skip, uint64_t offset,
                     uint64_t length) noexcept nogil
    cdef int patch(self, char *block, const iovec *segments, int count, uint64_t skip, uint64_t offset,
                   uint64_t length, int flags) noexcept nogil
    cdef int blocks(self, bint writing, char *block, uint64_t offset, uint64_t length,
                    int flags) noexcept nogil
