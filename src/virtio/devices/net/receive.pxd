"""The worker of a receive queue."""

cimport cython
from libc.stdint cimport int64_t

from virtio.device.worker cimport QueueWorker
from virtio.devices.net.intake cimport Intake
from virtio.devices.net.moderation cimport Delay
from virtio.devices.net.nic cimport Nic
from virtio.network.link cimport Link

cdef enum:
    TROUBLE_NS = 100000000      # between looks at a link that fails
    PATIENCE_NS = 100000000     # that one pair's full ring may hold up the others
    LOOK_NS = 50000             # between looks at another pair's full ring


@cython.final
cdef class Receiver(QueueWorker):
    cdef Nic nic
    cdef Link link
    cdef Intake intake
    cdef Delay delay            # None: notifications never wait
    cdef int pair
    cdef int link_fd            # readable when the link has frames; -1: it delivers itself
    cdef bint open
    cdef int64_t held           # since when a full ring holds up the link; 0: none does

    cdef void let_in(self) noexcept nogil
    cdef void keep_out(self) noexcept nogil
    cdef void ring(self) noexcept nogil
    cdef void look_at_delay(self) noexcept nogil
    cdef void pump(self) noexcept nogil
    cdef void wait_for_room(self) noexcept nogil
    cdef bint look_for_room(self) noexcept nogil
    cdef bint keep_looking(self) noexcept nogil
    # Sleep until woken, or until what is asked for is readable; `limit` in nanoseconds, -1 for none.
    cdef void rest(self, bint for_link, bint for_kick, int64_t limit) noexcept nogil
