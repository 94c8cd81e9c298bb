"""A load generator for block devices: one queue, one thread, no GIL."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from virtio.drivers.channel cimport Channel
from virtio.memory.table cimport GuestMemory
from virtio.virtqueue.queue cimport DriverQueue

cdef enum:
    SECTOR = 512
    HEAD = 64               # bytes of a request's head: header, then status on the same cache line
    STATUS_AT = 32
    NO_STATUS = 0xFF
    T_IN = 0
    T_OUT = 1
    REAP = 64               # completions taken at once
    SUB_BUCKETS = 32        # of each power of two of nanoseconds: 3 % wide
    BUCKETS = 60 * SUB_BUCKETS
    TOGETHER = 256          # generators that one thread drives, at most


cdef struct Header:
    # struct virtio_blk_req, as a little-endian machine writes it
    uint32_t type
    uint32_t reserved
    uint64_t sector


cdef struct Slot:
    char *head              # in this process
    char *data
    uint64_t head_address   # for the device
    uint64_t data_address
    int64_t submitted       # monotonic nanoseconds
    uint64_t block
    uint32_t generation     # of the data written, or expected when read
    uint32_t kind           # T_IN or T_OUT


cdef inline uint64_t mix(uint64_t value) noexcept nogil:
    """A good hash of 64 bits (the finaliser of splitmix64)."""
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline int bucket_of(uint64_t nanoseconds) noexcept nogil:
    """Which histogram bucket a latency falls into."""
    cdef int exponent = 0
    while nanoseconds >= 2 * SUB_BUCKETS:
        nanoseconds >>= 1
        exponent += 1
    cdef int bucket = exponent * SUB_BUCKETS + <int>nanoseconds
    return bucket if bucket < BUCKETS else BUCKETS - 1


@cython.final
cdef class BlkLoad:
    cdef Channel channel
    cdef DriverQueue queue
    cdef object memory              # keeps the buffers mapped
    cdef Slot *slots
    cdef uint32_t *generations      # of each block, when verifying; 0: not written by us
    cdef uint8_t *busy              # blocks in flight, when verifying
    cdef readonly int depth
    cdef readonly uint64_t block_size
    cdef readonly uint64_t first_block
    cdef readonly uint64_t blocks
    cdef bint random
    cdef bint polling
    cdef bint verify
    cdef int read_percent
    cdef uint64_t state             # of the random numbers
    cdef uint64_t next_block
    cdef uint32_t next_generation
    cdef readonly uint64_t left     # requests still to be submitted
    cdef readonly int in_flight
    cdef readonly uint64_t completed
    cdef readonly uint64_t errors
    cdef readonly uint64_t mismatches
    cdef readonly uint64_t first_mismatch   # byte offset on the disk
    cdef readonly int64_t cpu_ns
    cdef readonly int64_t elapsed_ns
    cdef readonly int64_t max_latency_ns
    cdef readonly int last_status
    cdef uint64_t latencies[BUCKETS]

    cdef int allocate(self) except -1
    cdef int place(self, heads, data) except -1
    cdef uint64_t random_number(self) noexcept nogil
    cdef uint64_t choose_block(self) noexcept nogil
    cdef int start(self, uint64_t index, int64_t now) noexcept nogil
    cdef void finish(self, uint64_t index, int64_t now) noexcept nogil
    cdef void fill_data(self, Slot *slot) noexcept nogil
    cdef void check_data(self, Slot *slot) noexcept nogil
    cdef int fill_queue(self, int64_t now) noexcept nogil
    cdef int turn(self, int64_t until) noexcept nogil
    cdef int idle(self, int64_t until) noexcept nogil
