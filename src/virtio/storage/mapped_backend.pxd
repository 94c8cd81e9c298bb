"""Files through a shared mapping, where touching it cannot wait."""

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.memory.guard cimport Guard
from virtio.storage.file_backend cimport FileBackend
from virtio.storage.gate cimport SLOTS, Gate, Slot
from virtio.storage.residence cimport PAGE

cdef extern from "<sys/mman.h>":
    # Newer than some C libraries' headers, older than some kernels: there it fails and is not missed.
    """
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #endif
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    """
    const int MADV_POPULATE_READ
    const int MADV_POPULATE_WRITE

cdef enum:
    CHUNK_BITS = 19         # 512 KiB are proven at a time: a proof costs about as much as a request
    CHUNK = 1 << CHUNK_BITS
    CHUNK_PAGES = CHUNK // PAGE
    LARGE = 1 << 16         # bytes of a write that is better as a system call unless it happens again
    TICK_BITS = 28          # nanoseconds, 268 ms: a proof holds for one to two ticks
    ERA_BITS = 7            # ticks, 34 s: about as long as the kernel leaves a page dirty
    STAMP = 0x3fffffff      # bits of a generation in Chunk.resident
    WATCH = 64              # copies between two looks at the thread's major faults
    HOT = CHUNK_PAGES // 4  # pages of a chunk written before writing through the mapping pays
    READY = 0xffff          # Chunk.writes: no hole, and open for writing

cdef enum Residence:        # the low bits of Chunk.resident, below a generation
    UNKNOWN = 0
    SEEN = 1                # used before: worth a proof
    DENIED = 2              # not wholly resident then
    PROVEN = 3              # every page resident then, and mapped


cdef struct Chunk:
    # Written by any thread without a lock: a lost update costs time, never a byte.
    uint32_t resident       # generation << 2 | Residence
    uint16_t era            # to which `writes` belongs
    uint16_t writes         # pages written in that era, up to CHUNK_PAGES; READY


@cython.final
cdef class MappedBackend(FileBackend):
    cdef char *base                 # of the mapping, aligned like a huge page
    cdef readonly uint64_t mapped   # bytes of the mapping, more than the file has; 0: none
    cdef void *space                # what mmap returned, for the mapping
    cdef uint64_t space_size
    cdef uint64_t extent            # bytes that the file had at the last tick; atomic
    cdef Chunk *chunks
    cdef Guard *guard
    cdef int lost                   # the guard replaced a page; atomic
    cdef int forgotten              # generations skipped, to expire all proofs; atomic
    cdef int flushes                # atomic
    cdef uint64_t ticked            # tick of the last look at the file's size
    cdef uint64_t repairs           # times that lost pages were mapped again
    cdef bint writable
    cdef bint in_memory             # tmpfs: no writeback, no blocks to be allocated apart from the pages
    cdef Gate gate                  # copies are behind it

    cdef int map(self, uint64_t room) except -1
    cdef void unmap(self) noexcept
    cdef int64_t copy(self, bint writing, const iovec *segments, int count, uint64_t offset,
                      uint64_t length) noexcept nogil
    cdef bint proven(self, Slot *slot, bint writing, uint64_t offset, uint64_t length) noexcept nogil
    cdef bint resident(self, Slot *slot, uint64_t index, uint32_t generation, bint populate) noexcept nogil
    cdef bint prove(self, uint64_t index, bint populate) noexcept nogil
    cdef bint hot(self, uint64_t index, uint16_t era, uint64_t length) noexcept nogil
    cdef void open(self, uint64_t start, uint64_t end) noexcept nogil
    cdef void note(self, bint writing, uint64_t offset, uint64_t length) noexcept nogil
    cdef void drop(self, uint64_t offset, uint64_t length) noexcept nogil
    cdef void forget(self) noexcept nogil
    cdef void watch(self, Slot *slot) noexcept nogil
    cdef void measure(self) noexcept nogil
    cdef uint16_t era(self, uint64_t tick) noexcept nogil
    cdef void mend(self) noexcept nogil
