"""A link whose other end is a test."""

from posix.uio cimport iovec

from virtio.network.frame cimport BURST, LONGEST_FRAME, Frame
from virtio.network.link cimport Link

cdef enum:
    PARTS = 4           # places that a frame's bytes are spread over


cdef class Wire(Link):
    cdef object taken       # list of Seen
    cdef object waiting     # deque of frames for `receive`
    cdef object condition
    cdef int fd
    cdef bint full          # refuses what the guest sends
    cdef readonly object offloads
    cdef iovec places[BURST][PARTS]
    cdef Frame ready[BURST]

    cdef void keep(self, int queue, const Frame *frames, int count) noexcept with gil
    cdef int fetch(self, int queue, int budget) noexcept with gil
    cdef int prepare(self, list frames) except -1
