"""A driver thread and a device thread that share a ring, and check each other."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from libc.string cimport memcpy

from virtio.memory.atomic cimport cpu_pause
from virtio.virtqueue.queue cimport Buffer, Chain, Completion, DeviceQueue, DriverQueue

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_read(int fd, uint64_t *value)
    int eventfd_write(int fd, uint64_t value)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
    const short POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout)

cdef enum Trouble:
    NONE = 0
    HANG = 1            # slept until the watchdog, although the other side should have woken us
    LOST = 2            # another sequence number than the next
    DOUBLED = 3         # a completion of what was not outstanding
    REORDERED = 4       # IN_ORDER, and completed out of turn
    CONTENT = 5         # a buffer does not hold what belongs there
    SHAPE = 6           # not the buffers that were offered
    FAULT = 7           # a queue stopped

cdef enum Flaw:
    SOUND = 0
    CORRUPT = 1         # the driver writes one wrong sequence number
    BLIND_SLEEP = 2     # the device sleeps without a last look after asking for notifications

cdef enum:
    BATCH = 64          # chains
    LATE = 8            # chains the device holds back from batch to batch, at most
    MOST_BUFFERS = 4    # of a chain
    STRIDE = 16         # bytes from buffer to buffer; they are half as long, so none are joined
    WRITABLE = 64       # where a slot's writable buffers begin
    SLOT = 128          # bytes of memory for one chain's buffers


cdef inline int buffers_of(uint64_t number) noexcept nogil:
    """How many buffers the chain of this number has: 1 to 4."""
    return 1 + <int>(number * <uint64_t>0x2545F4914F6CDD1D >> 62)


cdef inline int readable_of(uint64_t number) noexcept nogil:
    """How many of them are readable: at least one."""
    return 1 + <int>((number * <uint64_t>0x1B54A32D192ED03B >> 40) % <uint64_t>buffers_of(number))


cdef inline uint64_t load_number(const char *place) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, place, 8)
    return value


cdef inline void store_number(char *place, uint64_t value) noexcept nogil:
    memcpy(place, &value, 8)


cdef inline void spin(uint64_t rounds) noexcept nogil:
    cdef uint64_t i
    for i in range(rounds):
        cpu_pause()


cdef class Stress:
    cdef DriverQueue driver
    cdef DeviceQueue device
    cdef char *host             # the slots, as we see them
    cdef uint64_t buffers       # the slots' guest address
    cdef int kick_fd
    cdef int call_fd
    cdef int watchdog           # milliseconds
    cdef int flaw
    cdef uint64_t goal          # descriptors to move
    cdef int finished           # atomic: the device may go
    cdef int trouble            # atomic
    cdef readonly uint64_t detail
    # The driver's.
    cdef uint64_t *pending      # by slot: its sequence number plus 1; 0 while it is free
    cdef uint32_t *free_slots
    cdef uint32_t free_count
    cdef uint64_t added         # chains
    cdef Buffer chain[MOST_BUFFERS]
    cdef Completion done[BATCH]
    cdef uint64_t reaped        # chains
    cdef readonly uint64_t descriptors
    cdef readonly uint64_t kicks
    cdef readonly uint64_t driver_sleeps
    # The device's.
    cdef uint64_t taken         # chains
    cdef Chain *batch[BATCH]
    cdef Chain *late[LATE]
    cdef int late_count
    cdef readonly uint64_t calls
    cdef readonly uint64_t device_sleeps

    cdef void _fail(self, int trouble, uint64_t detail) noexcept nogil
    cdef bint _sleep(self, int fd) noexcept nogil
    cdef void _drive(self) noexcept nogil
    cdef int _offer(self) noexcept nogil
    cdef int _collect(self) noexcept nogil
    cdef void _check_reply(self, const Completion *completion) noexcept nogil
    cdef void _serve(self) noexcept nogil
    cdef void _answer(self, Chain **chains, int count) noexcept nogil
    cdef void _check_request(self, Chain *chain) noexcept nogil
    cdef void _publish(self) noexcept nogil
