"""Finishing frames: checksums that were left to be computed, segments that were left to be cut."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.network.frame cimport (
    BURST,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    GSO_UDP_L4,
    LONGEST_FRAME,
    NEEDS_CSUM,
    Frame,
    NetHeader,
)

cdef enum Takes:            # what of a frame a receiver finishes itself, as bits
    TAKES_CSUM = 1
    TAKES_TSO4 = 2
    TAKES_TSO6 = 4
    TAKES_ECN = 8
    TAKES_UFO = 16
    TAKES_USO4 = 32
    TAKES_USO6 = 64

cdef enum:
    LONGEST_HEADERS = 512   # bytes of link, IP and transport header together that are cut from; more is refused
    ETHERNET = 14           # bytes
    TAG = 4                 # bytes of a VLAN tag
    SCRATCH = 4 * 65552     # bytes: frames that are worked on before they are handed on

cdef enum Kind:             # what a frame is cut into
    WHOLE
    TCP_SEGMENTS
    UDP_DATAGRAMS
    IP_FRAGMENTS


cdef inline bint finished(const NetHeader *header, int takes, const Frame *frame) noexcept nogil:
    """Can a receiver that `takes` have the frame as it is?"""
    cdef int wanted
    if header.gso_type == GSO_NONE:
        return not header.flags & NEEDS_CSUM or takes & TAKES_CSUM
    wanted = wanted_by(header, frame)
    return (takes & wanted) == wanted


# What a receiver must take to be given a frame with this GSO type. A UDP_L4 frame that is neither IPv4 nor IPv6
# wants both.
cdef int wanted_by(const NetHeader *header, const Frame *frame) noexcept nogil
# Copy `length` bytes of a frame, from `offset` on, to one place; they are within the frame.
cdef void copy_out(const Frame *frame, uint32_t offset, char *target, uint32_t length) noexcept nogil


cdef struct Cut:
    # How one frame is cut. Offsets are bytes from its start.
    Kind kind
    bint six                # IPv6
    uint8_t protocol
    uint32_t network        # of the IP header
    uint32_t transport      # of the TCP or UDP header; of the payload for fragments
    uint32_t link           # of IPv6's next-header field that names the transport
    uint32_t headers        # bytes repeated before each piece
    uint32_t payload        # bytes to cut
    uint32_t size           # bytes in each piece but the last
    uint32_t done           # bytes cut so far
    uint32_t index          # of the next piece
    uint32_t identity       # of IPv6 fragments
    uint32_t sequence       # TCP's of the first piece
    uint16_t id             # IPv4's of the first piece


cdef class Finisher:
    """Makes finished frames of unfinished ones. One thread at a time uses it.

    begin -> next until it says that there are no more. What `next` made is valid until `recycle`, which may be
    called whenever those frames are gone, at the latest after BURST of them.
    """
    cdef char *scratch
    cdef uint32_t used          # bytes of scratch that hold frames, the present one included
    cdef char *frame            # the present one, in one piece
    cdef uint32_t length        # bytes of it
    cdef Cut cut
    cdef int made               # since recycle
    cdef uint32_t identity      # of the last IPv6 packet that was fragmented
    cdef char headers[BURST][LONGEST_HEADERS]
    cdef iovec pieces[BURST][2]

    # Is there room for one more frame of this length?
    cdef bint room(self, uint32_t length) noexcept nogil
    # Start on a frame that is not `finished`, with `room` for it. 0, or -EINVAL: its headers make no sense.
    cdef int begin(self, const Frame *frame) noexcept nogil
    # Make the next finished frame. False: there is no more, or, with `made` at BURST, not before `recycle`.
    cdef bint next(self, Frame *frame) noexcept nogil
    cdef bint more(self) noexcept nogil
    # Make no more of the present frame.
    cdef void abandon(self) noexcept nogil
    # Give back what was made; the present frame can go on.
    cdef void recycle(self) noexcept nogil

    cdef int plan(self, const NetHeader *header) noexcept nogil
    cdef int plan_ipv4(self, const NetHeader *header) noexcept nogil
    cdef int plan_ipv6(self, const NetHeader *header) noexcept nogil
    cdef int plan_transport(self, const NetHeader *header) noexcept nogil
    cdef int plan_fragments(self, const NetHeader *header) noexcept nogil
    cdef int fill_checksum(self, const NetHeader *header) noexcept nogil
    cdef void write_network(self, uint8_t *head, uint32_t size, bint last) noexcept nogil
    cdef void write_fragment(self, uint8_t *head, bint last) noexcept nogil
    cdef void write_transport(self, uint8_t *head, uint32_t size, bint last) noexcept nogil
    cdef uint64_t pseudo(self, const uint8_t *head, uint32_t length) noexcept nogil
