"""The messages of a shared switch that carry frames, as bytes.

Over a unix socket of type SEQPACKET each message is a packet. It begins with two bytes, its type and the
version, 1. A FRAME goes on with struct virtio_net_hdr without num_buffers (10 bytes, little-endian) and the
frame. The other messages go on with JSON; see `protocol`.
"""

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy
from posix.uio cimport iovec

from virtio.network.frame cimport (
    GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, LONGEST_FRAME, NEEDS_CSUM, NetHeader,
)

cdef enum:
    VERSION = 1
    FRAME_MESSAGE = 2       # the type
    PREFIX = 12             # bytes before a frame
    LONGEST_MESSAGE = PREFIX + LONGEST_FRAME
    STRIDE = 65600          # bytes from buffer to buffer: the longest, aligned

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    const int MSG_DONTWAIT
    const int MSG_NOSIGNAL
    const int MSG_TRUNC

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    const short POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout)


cdef inline void put_u16(uint8_t *place, uint16_t value) noexcept nogil:
    place[0] = value & 0xFF
    place[1] = value >> 8


cdef inline uint16_t get_u16(const uint8_t *place) noexcept nogil:
    return place[0] | (<uint16_t>place[1] << 8)


cdef inline void write_prefix(const NetHeader *header, uint8_t *place) noexcept nogil:
    place[0] = FRAME_MESSAGE
    place[1] = VERSION
    place[2] = header.flags
    place[3] = header.gso_type
    put_u16(place + 4, header.hdr_len)
    put_u16(place + 6, header.gso_size)
    put_u16(place + 8, header.csum_start)
    put_u16(place + 10, header.csum_offset)


cdef inline bint read_prefix(const uint8_t *place, unsigned int length, NetHeader *header) noexcept nogil:
    """Read the header of a frame of `length` bytes; False if it asks for what cannot be."""
    cdef int kind
    header.flags = place[2]
    header.gso_type = place[3]
    header.hdr_len = get_u16(place + 4)
    header.gso_size = get_u16(place + 6)
    header.csum_start = get_u16(place + 8)
    header.csum_offset = get_u16(place + 10)
    kind = header.gso_type & ~GSO_ECN
    if length < 14 or length > LONGEST_FRAME:
        return False
    if header.flags & NEEDS_CSUM and <unsigned int>header.csum_start + header.csum_offset + 2 > length:
        return False
    if kind == GSO_NONE:
        return header.gso_type == GSO_NONE
    if not (kind == GSO_TCPV4 or kind == GSO_TCPV6 or kind == GSO_UDP or kind == GSO_UDP_L4):
        return False
    # A frame that is still to be cut has a checksum to be computed (5.1.6.2), and pieces of some size.
    return bool(header.flags & NEEDS_CSUM) and header.gso_size != 0 and header.hdr_len <= length
