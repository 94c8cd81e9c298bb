"""Packets within packets: what the hash of an inner header needs to know of tunnels."""

from libc.stdint cimport uint32_t

from virtio.devices.net.headers cimport Flow, octets

cdef enum:                  # HASH_TUNNEL_TYPE_*
    GRE_2784 = 1 << 0
    GRE_2890 = 1 << 1
    GRE_7676 = 1 << 2
    GRE_UDP = 1 << 3
    VXLAN = 1 << 4
    VXLAN_GPE = 1 << 5
    GENEVE = 1 << 6
    IPIP = 1 << 7
    NVGRE = 1 << 8

cdef enum:                  # UDP ports
    PORT_GRE = 4754
    PORT_VXLAN = 4789
    PORT_VXLAN_GPE = 4790
    PORT_GENEVE = 6081

cdef enum:
    ETHERNET_BRIDGING = 0x6558      # EtherType: an Ethernet frame follows
    CHECKSUM_PRESENT = 0x8000       # in the flags of GRE
    KEY_PRESENT = 0x2000
    SEQUENCE_PRESENT = 0x1000
    GRE_UNKNOWN = 0x4FFF            # flags that no RFC allows here, and the version


# If `flow` is a packet of one of the `types` (HASH_TUNNEL_TYPE_*), make it that of the packet inside.
cdef void enter(Flow *flow, uint32_t types) noexcept nogil
