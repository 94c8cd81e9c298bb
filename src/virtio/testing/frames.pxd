"""A NIC made of Python lists, for tests of links and filters."""

from virtio.network.frame cimport Frame
from virtio.network.link cimport Link, Sink


cdef class CollectSink(Sink):
    cdef readonly Link link
    cdef public object room         # frames that still fit; None: any number
    cdef list waiting
    cdef object news                # a condition
    cdef int collect(self, int queue, const Frame *frames, int count) noexcept
