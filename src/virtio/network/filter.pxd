"""A link around another: what every filter delegates."""

from virtio.network.frame cimport Frame
from virtio.network.link cimport Link, Sink


cdef class Inward(Sink):
    """The inner link's guest: hands what the world sends to the filter."""
    cdef FilterLink filter


cdef class FilterLink(Link):
    """Passes everything on, both ways. A filter overrides `put`, `deliver`, or both."""
    cdef readonly Link inner
    cdef Inward inward

    # Take what comes from the inner link, on any of its threads; the contract is that of `Sink.put`.
    cdef int deliver(self, int queue, const Frame *frames, int count) noexcept nogil
