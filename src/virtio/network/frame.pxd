"""A frame on its way: bytes in any number of places, and what of it is still to be computed."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from posix.uio cimport iovec

cdef enum:
    HEADER = 12             # bytes of NetHeader on the wire, little-endian for a modern driver
    BURST = 64              # frames handed on at once
    LONGEST_FRAME = 65550   # bytes: an Ethernet header and an IP packet, as segmentation offload makes them


cdef enum HeaderFlag:       # virtio 1.4, Network Device, Device Operation
    NEEDS_CSUM = 1
    DATA_VALID = 2
    RSC_INFO = 4

cdef enum GsoType:
    GSO_NONE = 0
    GSO_TCPV4 = 1
    GSO_UDP = 3
    GSO_TCPV6 = 4
    GSO_UDP_L4 = 5
    GSO_ECN = 0x80


cdef struct NetHeader:
    # struct virtio_net_hdr without num_buffers, which is each receiver's own; in the machine's byte order
    uint8_t flags
    uint8_t gso_type
    uint16_t hdr_len        # bytes
    uint16_t gso_size       # bytes of payload in each segment
    uint16_t csum_start     # bytes from the start of the frame
    uint16_t csum_offset    # bytes from csum_start


cdef struct Frame:
    const iovec *segments   # from the Ethernet header on, without a checksum at the end (no FCS)
    int count               # of segments
    uint32_t length         # bytes, all segments together; what the sender says has been checked
    NetHeader header        # all zero: nothing to be computed
