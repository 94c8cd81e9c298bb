"""Frames in and out of links, from Python."""

from virtio.network.link cimport Sink

cdef class CollectSink(Sink):
    cdef readonly list frames
    cdef readonly object limit

