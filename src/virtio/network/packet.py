"""Packets in Ethernet frames, in plain Python: for the few that are looked into or made up."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

__all__ = ["Datagram", "checksum", "ip_packet", "parse_udp", "tcp_start", "udp_frame"]

IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP = 6, 17
VLAN_TAGS = (0x8100, 0x88A8)
EXTENSIONS = (0, 43, 60)
"""IPv6's headers before TCP's: hop-by-hop options, routing, destination options."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Datagram(NamedTuple):
    """A UDP datagram with the addresses that it travels under."""

    source_mac: bytes
    target_mac: bytes
    source: Address
    target: Address
    source_port: int
    target_port: int
    data: bytes

    def reply(self, data: bytes) -> Datagram:
        """The same way back."""
        return Datagram(
            self.target_mac,
            self.source_mac,
            self.target,
            self.source,
            self.target_port,
            self.source_port,
            data,
        )


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def parse_udp(frame: bytes) -> Datagram | None:
    """The datagram in a frame; None if there is none, whole and without options before it."""
    if len(frame) < 14 + 20 + 8:
        return None
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == IPV4:
        at = 14 + (frame[14] & 15) * 4
        whole = not struct.unpack_from("!H", frame, 20)[0] & 0x3FFF
        found = frame[14] >> 4 == 4 and at >= 34 and frame[23] == UDP and whole
        source, target = frame[26:30], frame[30:34]
    else:
        at = 54
        found = kind == IPV6 and frame[14] >> 4 == 6 and frame[20] == UDP
        source, target = frame[22:38], frame[38:54]
    if not found or len(frame) < at + 8:
        return None
    source_port, target_port, length, _ = struct.unpack_from("!4H", frame, at)
    if length < 8 or at + length > len(frame):
        return None
    addresses = ipaddress.ip_address(source), ipaddress.ip_address(target)
    data = frame[at + 8 : at + length]
    return Datagram(frame[6:12], frame[:6], *addresses, source_port, target_port, data)


def tcp_start(frame: bytes | memoryview) -> int | None:
    """Where the TCP header of a frame begins, in bytes, behind tags and options; None if it has none."""
    kind, at = int.from_bytes(frame[12:14], "big"), 14
    while kind in VLAN_TAGS:
        kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    try:
        if kind == IPV4:
            protocol, at = frame[at + 9], at + (frame[at] & 15) * 4
        elif kind == IPV6:
            protocol, at = frame[at + 6], at + 40
            while protocol in EXTENSIONS:
                protocol, at = frame[at], at + 8 + frame[at + 1] * 8
        else:
            return None
    except IndexError:
        return None
    return at if protocol == TCP and at + 20 <= len(frame) else None


def udp_frame(datagram: Datagram) -> bytes:
    """The frame that carries a datagram."""
    source, target = datagram.source.packed, datagram.target.packed
    length = 8 + len(datagram.data)
    ports = struct.pack("!HHH", datagram.source_port, datagram.target_port, length)
    pseudo = source + target + struct.pack("!IHH", length, 0, UDP)
    body = (
        ports
        + struct.pack("!H", checksum(pseudo + ports + b"\0\0" + datagram.data) or 0xFFFF)
        + datagram.data
    )
    ethertype = struct.pack("!H", IPV6 if datagram.source.version == 6 else IPV4)
    ethernet = datagram.target_mac + datagram.source_mac + ethertype
    return ethernet + ip_packet(datagram.source, datagram.target, UDP, body)


def ip_packet(source: Address, target: Address, protocol: int, body: bytes) -> bytes:
    """An IP packet of either version, without options and not to be fragmented."""
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source.packed + target.packed + body
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0)
    header += source.packed + target.packed
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body
