"""What the headers of an Ethernet frame say of the flow that it belongs to. Nothing in a frame is trusted."""

# ruff: noqa: F821 -- the .pxd declares these names

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint32_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.virtio.network.frame import Frame

__all__: list[str] = []


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def head_of(
    frame: cython.pointer[cython.const[Frame]],
    scratch: cython.pointer[uint8_t],
    length: cython.pointer[uint32_t],
) -> octets:
    i: cython.int
    run: uint32_t
    copied: uint32_t = 0
    length[0] = 0
    if frame.count == 0:
        return scratch
    if frame.count == 1 or frame.segments[0].iov_len >= HEAD:
        length[0] = cython.cast(uint32_t, frame.segments[0].iov_len)
        return cython.cast(octets, frame.segments[0].iov_base)
    for i in range(frame.count):
        run = cython.cast(uint32_t, min(frame.segments[i].iov_len, HEAD - copied))
        memcpy(scratch + copied, frame.segments[i].iov_base, run)
        copied += run
        if copied == HEAD:
            break
    length[0] = copied
    return scratch


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read_flow(frame: octets, length: uint32_t, flow: cython.pointer[Flow]) -> cython.void:
    """Past up to two VLAN tags."""
    at: uint32_t = 12
    _tags: cython.int
    for _tags in range(2):
        if length >= at + 4 and (u16(frame + at) == DOT1Q or u16(frame + at) == DOT1AD):
            at += 4
    if length < at + 2:
        memset(flow, 0, cython.sizeof(Flow))
    else:
        read_packet(frame + at + 2, length - at - 2, u16(frame + at), flow)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read_packet(
    packet: octets, length: uint32_t, ethertype: cython.int, flow: cython.pointer[Flow]
) -> cython.void:
    memset(flow, 0, cython.sizeof(Flow))
    if ethertype == ETHERTYPE_IPV4:
        read_ipv4(packet, length, flow)
    elif ethertype == ETHERTYPE_IPV6:
        read_ipv6(packet, length, flow)
    if flow.payload != cython.NULL and flow.left >= 4 and (flow.protocol == TCP or flow.protocol == UDP):
        flow.ports = flow.payload


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read_ipv4(packet: octets, length: uint32_t, flow: cython.pointer[Flow]) -> cython.void:
    if length < 20:
        return
    header: uint32_t = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or header < 20 or header > length:
        return
    flow.address_bytes = 4
    flow.source = flow.home = packet + 12
    flow.target = flow.route = packet + 16
    flow.protocol = packet[9]
    if u16(packet + 6) & 0x3FFF == 0:  # neither more fragments nor an offset: ports are in the first only
        flow.payload = packet + header
        flow.left = length - header


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read_ipv6(packet: octets, length: uint32_t, flow: cython.pointer[Flow]) -> cython.void:
    """The fixed header, then one extension header after the other (RFC 8200, RFC 6275)."""
    if length < 40 or packet[0] >> 4 != 6:
        return
    flow.address_bytes = 16
    flow.source = flow.home = packet + 8
    flow.target = flow.route = packet + 24
    flow.protocol = packet[6]
    at: uint32_t = 40
    size: uint32_t
    while is_extension(flow.protocol):
        flow.extended = True
        if length < at + 8:
            return
        if flow.protocol == FRAGMENT:
            flow.protocol = packet[at]
            return
        size = (packet[at + 1] + 2) * 4 if flow.protocol == AUTHENTICATION else (packet[at + 1] + 1) * 8
        if length < at + size:
            return
        if flow.protocol == ROUTING:
            read_routing(packet + at, size, flow)
        elif flow.protocol == DESTINATION:
            read_options(packet + at, size, flow)
        flow.protocol = packet[at]
        at += size
    flow.payload = packet + at
    flow.left = length - at


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_extension(protocol: cython.int) -> cython.bint:
    return protocol in (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read_routing(header: octets, size: uint32_t, flow: cython.pointer[Flow]) -> cython.void:
    """A routing header of type 2 carries one address (RFC 6275, 6.4)."""
    if header[2] == 2 and size >= 24:
        flow.route = header + 8


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read_options(header: octets, size: uint32_t, flow: cython.pointer[Flow]) -> cython.void:
    """Among the destination options there may be a home address (RFC 6275, 6.3)."""
    at: uint32_t = 2
    while at + 2 <= size:
        if header[at] == 0:  # Pad1 has no length
            at += 1
            continue
        if header[at] == HOME_ADDRESS and header[at + 1] == 16 and at + 18 <= size:
            flow.home = header + at + 2
        at += 2 + header[at + 1]
