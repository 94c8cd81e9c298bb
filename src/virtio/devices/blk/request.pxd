"""A block request while it is served, and the place where finished ones wait for their queue."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.memory cimport atomic
from virtio.virtqueue.queue cimport Chain

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from *:
    """
    #define virtio_cas_pointer(place, expected, desired) \\
        __atomic_compare_exchange_n(place, expected, desired, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)
    """
    bint cas_pointer "virtio_cas_pointer"(Request **place, Request **expected, Request *desired) nogil
    Request *load_pointer "__atomic_load_n"(Request **place, int order) nogil
    Request *exchange_pointer "__atomic_exchange_n"(Request **place, Request *new, int order) nogil
    uint32_t swap_u32 "__builtin_bswap32"(uint32_t) nogil
    uint64_t swap_u64 "__builtin_bswap64"(uint64_t) nogil
    const int RELAXED "__ATOMIC_RELAXED"
    const int ACQUIRE "__ATOMIC_ACQUIRE"


cdef enum RequestType:      # virtio 1.4, Block Device, Device Operation
    T_IN = 0
    T_OUT = 1
    T_FLUSH = 4
    T_FLUSH_OUT = 5         # legacy name for the same
    T_GET_ID = 8
    T_DISCARD = 11
    T_WRITE_ZEROES = 13
    UNREAD = 0xffffffff     # no header to say

cdef enum RequestStatus:
    S_OK = 0
    S_IOERR = 1
    S_UNSUPP = 2


cdef enum:
    HEADER = 16             # bytes of a request before its data
    SECTOR = 512
    ID_BYTES = 20
    RANGE = 16              # bytes of a segment of DISCARD and WRITE_ZEROES
    MOST_RANGES = 64        # segments in one request; the configuration says so
    MOST_RANGE_SECTORS = 1 << 22        # sectors in one segment
    UNMAP = 1               # flag of a WRITE_ZEROES segment


cdef struct Range:          # struct virtio_blk_discard_write_zeroes, in host byte order
    uint64_t sector
    uint32_t sectors
    uint32_t flags


cdef struct Span:
    # What the kernel is doing for a request.
    uint64_t offset         # bytes of the storage that are touched
    uint64_t length
    bint unmap              # zeroes may be a hole


cdef struct Lane:
    # Finished requests of one queue, last first: pushed by any thread, all taken at once by the queue's own.
    Request *done
    int wake_fd             # an eventfd, written when `done` stops being empty
    int visitors            # threads between a push and the end of that write; atomic


cdef struct Request:
    Chain *chain
    Lane *lane
    Request *next           # in the run, the executor's line, the lane or the free list
    Span span
    iovec *data             # the chain's data: without header and status
    int segments
    uint32_t type
    uint64_t offset         # bytes into the storage
    uint64_t length         # bytes of data
    bint trimmed            # the status byte was taken off the last segment
    bint swap               # a legacy driver of the other byte order
    uint64_t capacity       # bytes of the storage when the request came
    bint durable            # acknowledge only what is on stable storage
    int result              # 0 or a negative errno: the host's reason to fail, for the log
    uint8_t status          # RequestStatus, the driver's answer
    uint8_t *answer         # where that goes: the last writable byte


cdef inline bint push(Lane *lane, Request *request) noexcept nogil:
    """Add a finished request. True if it is the first: then whoever sleeps must be woken."""
    cdef Request *head = load_pointer(&lane.done, RELAXED)
    while True:
        request.next = head
        if cas_pointer(&lane.done, &head, request):
            return head == NULL


cdef inline void await_visitors(Lane *lane) noexcept nogil:
    """Return once nobody is about to write `wake_fd`, a number that someone else's file may have soon."""
    while atomic.load_int(&lane.visitors, atomic.ACQUIRE) > 0:
        sched_yield()


cdef inline Request *take_all(Lane *lane) noexcept nogil:
    """Everything finished since the last time, first finished first."""
    cdef Request *head = exchange_pointer(&lane.done, NULL, ACQUIRE)
    cdef Request *reversed = NULL
    cdef Request *next
    while head != NULL:
        next = head.next
        head.next = reversed
        reversed = head
        head = next
    return reversed
