"""A wire with one end in a test's hands."""

from posix.uio cimport iovec

from virtio.network.frame cimport Frame
from virtio.network.link cimport Link, Sink


cdef class Wire(Link):
    cdef readonly list frames       # of WireFrame
    cdef public object room         # frames that it keeps at most; None: any number
    cdef readonly object offloads
    cdef readonly Link link         # that it is plugged into
    cdef object waiting             # deque of WireFrame, for `receive`
    cdef object news                # a condition: a frame came
    cdef readonly str fetcher       # name of the thread that fetched the last frames; empty: none
    cdef int fd

    cdef int keep(self, int queue, const Frame *frames, int count) noexcept with gil
    cdef int fetch(self, int queue, int budget) noexcept with gil


# A burst of frames in memory, for the time that a sink has it.
cdef class Layout:
    cdef list data                  # holds what the segments point to
    cdef Frame *frames
    cdef iovec *segments
    cdef int count
    cdef int put(self, Sink sink, int queue) except? -1
