"""TCP segments that come one after another, joined for a driver that wants to know how many there were."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.network.frame cimport BURST, Frame

cdef enum:
    HEAD = 256              # bytes of a frame's beginning that are read
    MOST_PIECES = 4         # places in memory over which a frame to be joined may be spread
    MOST_PACKET = 65535     # bytes of an IPv4 packet, or of an IPv6 one behind its header
    PSH = 0x08              # TCP's flags
    ACK = 0x10


cdef struct Segment:
    # The headers of a frame, in memory that nobody else writes to. Offsets are bytes from its start.
    uint8_t head[HEAD]
    bint six                # IPv6
    uint32_t network        # of the IP header
    uint32_t transport      # of the TCP header
    uint32_t headers        # bytes of all of them together
    uint32_t payload        # bytes behind
    uint32_t sequence       # TCP's, of the first byte


@cython.final
cdef class Joiner:
    """One thread at a time uses it."""
    cdef Frame frame                # what to hand on instead, until the next `join`
    cdef Segment first
    cdef Segment next
    cdef iovec parts[1 + BURST * MOST_PIECES]
    cdef int count                  # of parts
    cdef uint32_t payload           # bytes of it in them
    cdef bint ended                 # nothing can follow

    # Make `frame` of the first of these, or of several if they go together: how many. 0: its headers are not
    # what its GSO type says. The frame is one that a driver which `takes` can have as it is.
    cdef int join(self, const Frame *frames, int count, int takes) noexcept nogil

    cdef int explain(self) noexcept nogil
    cdef bint begin(self, const Frame *frame, int takes) noexcept nogil
    cdef bint add(self, const Frame *frame, int number) noexcept nogil
    cdef bint follows(self, int number) noexcept nogil
    cdef void keep_payload(self, const Frame *frame, const Segment *segment) noexcept nogil
    cdef void complete(self, int number) noexcept nogil
