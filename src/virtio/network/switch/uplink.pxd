"""A link to the world as a port of a switch."""

from libc.stdint cimport uint64_t

from virtio.network.frame cimport BURST, Frame
from virtio.network.link cimport Link, Sink
from virtio.network.offload cimport Finisher
from virtio.network.switch.fabric cimport Port
from virtio.network.switch.pipe cimport pthread_mutex_t


cdef class Uplink(Sink):
    cdef readonly Link link
    cdef readonly Port port
    cdef readonly str url
    cdef int takes              # of unfinished frames, as bits of Takes
    cdef Finisher finisher      # behind the lock
    cdef pthread_mutex_t lock
    cdef uint64_t unfinished    # frames whose headers made no sense; atomic
    cdef object thread
    cdef int wake
    cdef bint closed
    cdef int finish(self, int queue, const Frame *frame) noexcept nogil
    cdef void pump(self, int fd, int wake) noexcept nogil
