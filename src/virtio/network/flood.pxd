"""A link that floods its guest."""

from libc.stdint cimport uint8_t, uint64_t
from posix.uio cimport iovec

from virtio.network.frame cimport BURST, LONGEST_FRAME, Frame
from virtio.network.link cimport Sink
from virtio.network.null cimport NullLink

cdef enum:
    PATIENCE = 500              # times that it looks for room before it sleeps
    PAUSES = 40                 # of the processor between two looks
    NAP_NS = 50000
    LONGEST_NAP_NS = 1000000


cdef class FloodLink(NullLink):
    cdef readonly int size      # bytes of each frame
    cdef readonly int burst     # frames put at once
    cdef bytes data
    cdef iovec place
    cdef Frame ready[BURST]
    cdef object thread
    cdef int stopping           # atomic
    cdef uint64_t flooded       # frames that the guest took; atomic
    cdef uint64_t refusals      # puts that were not taken whole; atomic

    cdef void flood(self, Sink guest) noexcept nogil
