"""Files through a shared mapping, where touching it cannot wait."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from posix.uio cimport iovec

from virtio.memory.guard cimport Guard
from virtio.storage.file_backend cimport FileBackend

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    uintptr_t pthread_self()
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

cdef extern from "<linux/magic.h>":
    # Newer than some C libraries' headers, older than some kernels: there it fails and is not missed.
    """
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #endif
    #ifndef XFS_SUPER_MAGIC
    #define XFS_SUPER_MAGIC 0x58465342
    #endif
    """
    const int MADV_POPULATE_READ

cdef enum:
    PAGE = 4096
    CHUNK_BITS = 19         # 512 KiB are proven at a time: a proof costs about as much as a request
    CHUNK = 1 << CHUNK_BITS
    CHUNK_PAGES = CHUNK // PAGE
    TICK_BITS = 28          # nanoseconds, 268 ms: a proof holds for one to two ticks
    ERA_BITS = 7            # ticks, 34 s: about as long as the kernel leaves a page dirty
    STAMP = 0x3fffffff      # bits of a generation in Chunk.resident
    SLOTS = 64              # a power of two
    WATCH = 64              # copies between two looks at the thread's major faults
    HOT = CHUNK_PAGES // 2  # pages of a chunk written before writing through the mapping pays
    READY = 0xffff          # Chunk.writes: no hole, and hot

cdef enum Residence:        # the low bits of Chunk.resident, below a generation
    UNKNOWN = 0
    SEEN = 1                # used before: worth a proof
    DENIED = 2              # not wholly resident then
    PROVEN = 3              # every page resident then, and mapped


cdef struct Chunk:
    # Written by any thread without a lock: a lost update costs time, never a byte.
    uint32_t resident       # generation << 2 | Residence
    uint16_t era            # to which `writes` belongs
    uint16_t writes         # pages written in that era, up to HOT; READY


cdef struct Slot:
    # One thread's share, rarely of several; 64 bytes, so that no two share a cache line.
    int inside              # copies going on; atomic
    int untold              # until the next look at major faults
    uint64_t owner          # thread that `faults` is of
    int64_t faults          # its major faults so far
    uint64_t reads          # copies made
    uint64_t writes
    uint64_t proofs         # looks at a chunk
    uint64_t denied         # those that found it not resident
    uint64_t spare


cdef inline uint64_t slot_number(uint64_t thread) noexcept nogil:
    # Thread ids are addresses far apart: Fibonacci's hash, to SLOTS.
    return (thread * 0x9E3779B97F4A7C15ULL) >> 58


cdef class MappedBackend(FileBackend):
    cdef char *base                 # of the mapping, aligned like a huge page
    cdef readonly uint64_t mapped   # bytes of the mapping, more than the file has; 0: none
    cdef void *space                # what mmap returned, for the mapping
    cdef uint64_t space_size
    cdef uint64_t extent            # bytes that the file had at the last tick; atomic
    cdef Chunk *chunks
    cdef Slot *slots
    cdef Guard *guard
    cdef int lost                   # the guard replaced a page; atomic
    cdef int shut                   # no copy may begin; atomic
    cdef int forgotten              # generations skipped, to expire all proofs; atomic
    cdef int flushes                # atomic
    cdef uint64_t ticked            # tick of the last look at the file's size
    cdef uint64_t repairs           # times that lost pages were mapped again
    cdef bint writable
    cdef bint in_memory             # tmpfs: no writeback, no blocks to be allocated apart from the pages
    cdef pthread_mutex_t mutex      # one at a time changes the mapping

    cdef int map(self, uint64_t room) except -1
    cdef void unmap(self) noexcept
    cdef Slot *enter(self) noexcept nogil
    cdef bint close_gate(self) noexcept nogil
    cdef void open_gate(self) noexcept nogil
    cdef int64_t copy(self, bint writing, const iovec *segments, int count, uint64_t offset,
                      uint64_t length) noexcept nogil
    cdef bint proven(self, Slot *slot, bint writing, uint64_t offset, uint64_t length) noexcept nogil
    cdef bint resident(self, Slot *slot, uint64_t index, uint32_t generation) noexcept nogil
    cdef bint prove(self, uint64_t index, bint populate) noexcept nogil
    cdef bint hot(self, uint64_t index, uint16_t era) noexcept nogil
    cdef bint allocated(self, uint64_t index) noexcept nogil
    cdef void note(self, bint writing, uint64_t offset, uint64_t length) noexcept nogil
    cdef void drop(self, uint64_t offset, uint64_t length) noexcept nogil
    cdef void forget(self) noexcept nogil
    cdef void watch(self, Slot *slot) noexcept nogil
    cdef void measure(self) noexcept nogil
    cdef uint16_t era(self, uint64_t tick) noexcept nogil
    cdef void mend(self) noexcept nogil
