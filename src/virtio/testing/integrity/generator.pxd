"""Requests on several queues at once, of which each answer is known beforehand."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from virtio.drivers.channel cimport Channel
from virtio.virtqueue.queue cimport Buffer

cdef enum:
    HEAD = 64               # bytes of a request's head: header, range, then status
    RANGE_AT = 16
    STATUS_AT = 32
    NO_STATUS = 0xFF
    T_IN = 0
    T_OUT = 1
    T_FLUSH = 4
    T_DISCARD = 11
    T_WRITE_ZEROES = 13
    F_UNMAP = 1
    REAP = 64               # completions taken at once
    MOST_QUEUES = 16
    MOST_SECTORS = 512      # in one request
    WRITER = 255            # in a sector's lock; below: how many read it
    FEW_SECTORS = 8         # most requests are that small,
    SOME_SECTORS = 64       # some that


cdef struct Head:
    # struct virtio_blk_req, and the range that a discard carries, as a little-endian machine writes them
    uint32_t type
    uint32_t reserved
    uint64_t sector
    uint64_t range_sector
    uint32_t range_sectors
    uint32_t range_flags


cdef struct Slot:
    char *head              # in this process
    char *data
    uint64_t head_address   # for the device
    uint64_t data_address
    uint64_t sector
    uint32_t sectors
    uint32_t kind
    uint32_t generation     # that the sectors have when the request succeeded
    uint32_t busy


cdef class Generator:
    cdef list lent                      # keeps the channels
    cdef object memory                  # keeps the buffers mapped
    cdef void *channels[MOST_QUEUES]    # the same, borrowed, for use without the GIL
    cdef Slot *slots
    cdef uint32_t *generations          # of each sector
    cdef uint8_t *locks                 # of each sector
    cdef int queues
    cdef int turn_of                    # the queue to sleep on next
    cdef readonly int depth
    cdef readonly uint64_t span         # sectors
    cdef int read_percent
    cdef int flush_every
    cdef int range_every
    cdef bint discards
    cdef bint zeroes
    cdef bint sweeping
    cdef uint64_t position              # of the sweep
    cdef uint64_t state                 # of the random numbers
    cdef uint64_t salt
    cdef uint32_t next_generation
    cdef readonly uint64_t left         # requests still to be submitted
    cdef readonly int in_flight
    cdef readonly int broken            # the queue whose ring the device broke, or -1
    cdef readonly uint64_t completed
    cdef readonly uint64_t errors
    cdef readonly int last_status
    cdef uint64_t kind_counts[16]       # requests completed, by type
    cdef readonly uint64_t sectors_checked
    cdef readonly uint64_t sectors_written
    cdef uint64_t verdicts[4]           # sectors, by verdict
    cdef readonly uint64_t first_wrong  # byte offset on the disk
    cdef readonly int64_t cpu_ns

    cdef int allocate(self) except -1
    cdef int place(self, heads, data) except -1
    cdef uint64_t random_number(self) noexcept nogil
    cdef uint32_t choose_kind(self, uint64_t dice) noexcept nogil
    cdef bint choose(self, Slot *slot) noexcept nogil
    cdef bint choose_next(self, Slot *slot) noexcept nogil
    cdef bint lock(self, Slot *slot) noexcept nogil
    cdef void unlock(self, Slot *slot) noexcept nogil
    cdef int start(self, int index) noexcept nogil
    cdef int submit(self, Slot *slot, int index) noexcept nogil
    cdef void prepare(self, Slot *slot) noexcept nogil
    cdef int describe(self, Slot *slot, Buffer *buffers) noexcept nogil
    cdef void finish(self, Slot *slot) noexcept nogil
    cdef void record(self, Slot *slot, bint succeeded) noexcept nogil
    cdef void check(self, Slot *slot) noexcept nogil
    cdef int reap(self, int queue) noexcept nogil
    cdef int fill(self) noexcept nogil
    cdef int turn(self, int64_t until) noexcept nogil
    cdef int idle(self) noexcept nogil
