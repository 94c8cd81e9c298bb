"""What the headers of an Ethernet frame say of the flow that it belongs to."""

from libc.stdint cimport uint8_t, uint32_t

from virtio.network.frame cimport Frame

cdef enum:
    HEAD = 256              # bytes of a scattered frame that are looked at

cdef enum:                  # EtherTypes
    ETHERTYPE_IPV4 = 0x0800
    DOT1Q = 0x8100
    ETHERTYPE_IPV6 = 0x86DD
    DOT1AD = 0x88A8

cdef enum:                  # IP protocols and IPv6's extension headers
    HOP_BY_HOP = 0
    IP_IN_IP = 4
    TCP = 6
    UDP = 17
    ROUTING = 43
    FRAGMENT = 44
    GRE = 47
    AUTHENTICATION = 51
    DESTINATION = 60
    MOBILITY = 135
    HOME_ADDRESS = 201      # a destination option


ctypedef const uint8_t *octets


cdef struct Flow:
    # What a packet's headers say; addresses and ports lie in the frame, big-endian
    octets source
    octets target
    octets home             # IPv6: the home address, else source
    octets route            # IPv6: the address of a routing header of type 2, else target
    octets ports            # source and destination port; NULL without a TCP or UDP header
    octets payload          # behind the IP headers; NULL in fragments
    uint32_t left           # bytes there
    int address_bytes       # 4, 16, or 0: no IP packet
    int protocol            # of the payload
    bint extended           # IPv6 with extension headers


# The frame's beginning in one piece: its own first segment, or a copy of up to HEAD bytes in `scratch`.
cdef octets head_of(const Frame *frame, uint8_t *scratch, uint32_t *length) noexcept nogil
# Read the headers of an Ethernet frame.
cdef void read_flow(octets frame, uint32_t length, Flow *flow) noexcept nogil
# As read_flow, of a packet of that EtherType.
cdef void read_packet(octets packet, uint32_t length, int ethertype, Flow *flow) noexcept nogil
cdef inline int u16(octets at) noexcept nogil:
    """The big-endian number there."""
    return at[0] << 8 | at[1]
