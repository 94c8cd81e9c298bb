"""Links without a world."""

from libc.stdint cimport uint64_t

from virtio.network.frame cimport Frame
from virtio.network.link cimport Link


cdef class NullLink(Link):
    cdef uint64_t frames    # taken; atomic
    cdef uint64_t bytes     # atomic


cdef class LoopLink(NullLink):
    cdef uint64_t dropped   # for which the guest had no room; atomic
