"""How long one queue's notifications may wait."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport timespec

cdef extern from "<sys/timerfd.h>" nogil:
    struct itimerspec:
        timespec it_interval
        timespec it_value
    const int TFD_CLOEXEC
    const int TFD_NONBLOCK
    const int TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)


@cython.final
cdef class Moderation:
    """Set by the control queue, read by the queue's worker."""
    cdef uint64_t both      # packets in the low half, microseconds in the high one; atomic

    # The limits now; False if notifications are not to wait at all.
    cdef bint limits(self, uint32_t *packets, int64_t *nanoseconds) noexcept nogil


@cython.final
cdef class Delay:
    """The notification of one ring that waits. One thread at a time uses it, but for `waiting`.

    `timer_fd` becomes readable when the wait may be over: who sleeps is to look at it, and then to ask `due`.
    """
    cdef Moderation moderation
    cdef int timer_fd
    cdef int waiting        # the driver is to be told, later; atomic
    cdef uint64_t first     # packets of the ring before the first one of the wait
    cdef int64_t since      # when it began
    cdef int64_t alarm      # when the timer expires, 0 if it is not set

    # The driver wants to be told of packets number `first` to `total` of the ring. True: it is told later.
    cdef bint holds(self, uint64_t first, uint64_t total) noexcept nogil
    # Is a wait over, now that the ring had `total` packets? The driver is to be told; nothing waits any more.
    cdef bint due(self, uint64_t total) noexcept nogil
    # Wait no longer. True if something did: the driver is to be told.
    cdef bint end(self) noexcept nogil
    cdef void set_alarm(self, int64_t when) noexcept nogil
