"""Requests on several queues at once, of which each answer is known beforehand."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from virtio.drivers.channel cimport Channel
from virtio.testing.integrity.sectors cimport Sectors, Slot
from virtio.virtqueue.queue cimport Buffer

cdef enum:
    HEAD = 64               # bytes of a request's head: header, range, then status
    RANGE_AT = 16
    STATUS_AT = 32
    NO_STATUS = 0xFF
    T_FLUSH = 4
    T_WRITE_ZEROES = 13
    F_UNMAP = 1
    REAP = 64               # completions taken at once
    MOST_QUEUES = 16
    MOST_SECTORS = 2048     # in one request
    FEW_SECTORS = 8         # most requests are that small,
    SOME_SECTORS = 64       # some that,
    MANY_SECTORS = 512      # few that; one in 256 is as large as may be
    SHIFTS = 64             # ways for data to begin in memory, 8 bytes apart
    BURST = 4               # flushes at once, at most


cdef struct Head:
    # struct virtio_blk_req, and the range that a discard carries, as a little-endian machine writes them
    uint32_t type
    uint32_t reserved
    uint64_t sector
    uint64_t range_sector
    uint32_t range_sectors
    uint32_t range_flags


cdef class Generator:
    cdef list lent                      # keeps the channels
    cdef object memory                  # keeps the buffers mapped
    cdef void *channels[MOST_QUEUES]    # the same, borrowed, for use without the GIL
    cdef Slot *slots
    cdef Sectors sectors                # what is known of each
    cdef int queues
    cdef int turn_of                    # the queue to sleep on next
    cdef readonly int depth
    cdef readonly uint64_t span         # sectors
    cdef uint32_t most                  # sectors in the largest requests
    cdef int read_percent
    cdef int flush_every
    cdef int range_every
    cdef uint32_t flushes_due           # of a burst
    cdef bint discards
    cdef bint zeroes
    cdef bint sweeping
    cdef uint64_t position              # of the sweep
    cdef uint64_t state                 # of the random numbers
    cdef uint32_t next_generation
    cdef readonly uint64_t left         # requests still to be submitted
    cdef readonly int in_flight
    cdef readonly int broken            # the queue whose ring the device broke, or -1
    cdef readonly uint64_t completed
    cdef readonly uint64_t errors
    cdef readonly int last_status
    cdef uint64_t kind_counts[16]       # requests completed, by type
    cdef readonly int64_t cpu_ns

    cdef int place(self, heads, data) except -1
    cdef uint64_t random_number(self) noexcept nogil
    cdef uint32_t choose_kind(self, uint64_t dice) noexcept nogil
    cdef uint64_t choose_most(self, uint64_t dice) noexcept nogil
    cdef bint choose(self, Slot *slot) noexcept nogil
    cdef bint choose_next(self, Slot *slot) noexcept nogil
    cdef int start(self, int index) noexcept nogil
    cdef int submit(self, Slot *slot, int index) noexcept nogil
    cdef void prepare(self, Slot *slot) noexcept nogil
    cdef int describe(self, Slot *slot, Buffer *buffers) noexcept nogil
    cdef void finish(self, Slot *slot) noexcept nogil
    cdef int reap(self, int queue) noexcept nogil
    cdef int fill(self) noexcept nogil
    cdef int turn(self, int64_t until) noexcept nogil
    cdef int idle(self) noexcept nogil
