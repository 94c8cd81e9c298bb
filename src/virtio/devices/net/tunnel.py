"""Tunnels (virtio 1.4, 5.1.6.4, Inner Header Hash): from a packet's headers to the inner packet's."""

# ruff: noqa: F821 -- the .pxd declares these names

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.virtio.devices.net.headers import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    GRE,
    IP_IN_IP,
    UDP,
    Flow,
    octets,
    read_flow,
    read_packet,
    u16,
)

__all__: list[str] = []


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def enter(flow: cython.pointer[Flow], types: uint32_t) -> cython.void:
    at: octets = flow.payload
    left: uint32_t = flow.left
    if at == cython.NULL:
        return
    if flow.protocol == IP_IN_IP and flow.address_bytes == 4:
        if types & IPIP:
            read_packet(at, left, ETHERTYPE_IPV4, flow)
    elif flow.protocol == GRE:
        enter_gre(at, left, types & (GRE_2784 | GRE_2890 | GRE_7676 | NVGRE), flow)
    elif flow.protocol == UDP and left >= 16:
        enter_udp(at + 8, left - 8, u16(at + 2), types, flow)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def enter_udp(
    at: octets, left: uint32_t, port: cython.int, types: uint32_t, flow: cython.pointer[Flow]
) -> cython.void:
    """What tunnel it is, the port says (RFC 7348, 8086, 8926 and the draft of VXLAN-GPE)."""
    skip: uint32_t
    if port == PORT_VXLAN and types & VXLAN:
        if at[0] & 0x08:  # the identifier is valid
            read_flow(at + 8, left - 8, flow)
    elif port == PORT_VXLAN_GPE and types & VXLAN_GPE:
        if at[0] & 0x04:  # the next protocol is valid
            enter_protocol(at + 8, left - 8, gpe_ethertype(at[3]), flow)
    elif port == PORT_GENEVE and types & GENEVE:
        skip = 8 + (at[0] & 0x3F) * 4
        if at[0] >> 6 == 0 and skip <= left:
            enter_protocol(at + skip, left - skip, u16(at + 2), flow)
    elif port == PORT_GRE and types & GRE_UDP:
        enter_gre(at, left, GRE_UDP, flow)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def enter_gre(at: octets, left: uint32_t, types: uint32_t, flow: cython.pointer[Flow]) -> cython.void:
    """RFC 2784, extended by RFC 2890; over or with IPv6 by RFC 7676; NVGRE (RFC 7637) is one use of it."""
    if left < 4:
        return
    flags: cython.int = u16(at)
    ethertype: cython.int = u16(at + 2)
    optional: cython.int = flags & (CHECKSUM_PRESENT | KEY_PRESENT | SEQUENCE_PRESENT)
    skip: uint32_t = 4
    kinds: uint32_t = GRE_UDP
    skip += 4 * ((flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1))
    if flags & GRE_UNKNOWN or skip > left:
        return
    kinds |= GRE_2890 if flags & (KEY_PRESENT | SEQUENCE_PRESENT) else GRE_2784
    if ethertype == ETHERTYPE_IPV6 or flow.address_bytes == 16:
        kinds |= GRE_7676
    if optional == KEY_PRESENT and ethertype == ETHERNET_BRIDGING:
        kinds |= NVGRE
    if types & kinds:
        enter_protocol(at + skip, left - skip, ethertype, flow)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def enter_protocol(
    at: octets, left: uint32_t, ethertype: cython.int, flow: cython.pointer[Flow]
) -> cython.void:
    if ethertype == ETHERNET_BRIDGING:
        read_flow(at, left, flow)
    else:
        read_packet(at, left, ethertype, flow)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def gpe_ethertype(protocol: cython.int) -> cython.int:
    """The EtherType of VXLAN-GPE's next protocol; 0 for one that is not looked into."""
    if protocol == 1:
        return ETHERTYPE_IPV4
    if protocol == 2:
        return ETHERTYPE_IPV6
    return ETHERNET_BRIDGING if protocol == 3 else 0
