"""What a frame is, in a few words and in plain Python: for people, not for the data path.

>>> frame = bytes.fromhex("ffffffffffff 525400000001 0806 0001 0800 06 04 0001 525400000001")
>>> frame += bytes([192, 0, 2, 1]) + bytes(6) + bytes([192, 0, 2, 2])
>>> summarize(frame).text
'who has 192.0.2.2? tell 192.0.2.1'
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

__all__ = ["Summary", "summarize"]

VLAN_TAGS = (0x8100, 0x88A8)
ETHERTYPES = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x8035: "RARP",
    0x86DD: "IPv6",
    0x8847: "MPLS",
    0x8863: "PPPoE",
    0x8864: "PPPoE",
    0x888E: "EAPOL",
    0x88CC: "LLDP",
}
LONGEST_LENGTH = 1500  # a type below 1536 is a length (IEEE 802.3)
FIRST_TYPE = 1536
TCP_FLAGS = ((2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH"))
ICMP = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
ICMPV6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
}
PROTOCOLS = {2: "IGMP", 47: "GRE", 50: "ESP", 89: "OSPF", 132: "SCTP"}
PORTS = {
    53: "DNS",
    67: "DHCP",
    68: "DHCP",
    123: "NTP",
    546: "DHCPv6",
    547: "DHCPv6",
    4789: "VXLAN",
    5353: "mDNS",
}


class Summary(NamedTuple):
    """Addresses as text, empty in a runt; the tags' VLANs, outermost first; the type; what it says."""

    source: str
    target: str
    vlans: tuple[int, ...]
    type: str
    text: str


def summarize(frame: bytes) -> Summary:
    """What a frame is, whatever bytes it has."""
    if len(frame) < 14:
        return Summary("", "", (), "runt", f"{len(frame)} bytes: {frame.hex(' ')}".rstrip(": "))
    vlans, at = [], 12
    kind = int.from_bytes(frame[12:14], "big")
    while kind in VLAN_TAGS and len(frame) >= at + 6:
        vlans.append(int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF)
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    name, text = _content(kind, frame[at + 2 :])
    return Summary(frame[6:12].hex(":"), frame[:6].hex(":"), tuple(vlans), name, text)


def _content(kind: int, data: bytes) -> tuple[str, str]:
    if kind < FIRST_TYPE:
        return "802.3", f"LLC, {min(kind, LONGEST_LENGTH)} bytes"
    name = ETHERTYPES.get(kind, f"0x{kind:04x}")
    describe = DESCRIBERS.get(kind)
    if describe is None:
        return name, f"{len(data)} bytes"
    try:
        return name, describe(data)
    except (IndexError, ValueError, struct.error):
        return name, f"cut short or malformed, {len(data)} bytes"


def _arp(data: bytes) -> str:
    kind, protocol, lengths, operation = struct.unpack_from("!4H", data)
    if (kind, protocol, lengths) != (1, 0x0800, 0x0604):
        return f"for hardware {kind} and protocol 0x{protocol:04x}"
    sender, asked = IPv4Address(data[14:18]), IPv4Address(data[24:28])
    answers = {
        1: f"who has {asked}? tell {sender}",
        2: f"{sender} is at {data[8:14].hex(':')}",
        3: f"who is {data[18:24].hex(':')}? tell {data[8:14].hex(':')}",
        4: f"{data[18:24].hex(':')} is {asked}",
    }
    return answers.get(operation, f"operation {operation}")


def _ipv4(data: bytes) -> str:
    words, fragment = (data[0] & 15) * 4, int.from_bytes(data[6:8], "big") & 0x1FFF
    length = int.from_bytes(data[2:4], "big")
    source, target = str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20]))
    if fragment:
        return f"{source} > {target} fragment at {fragment * 8}, {length - words} bytes"
    return _packet(data[9], source, target, data[words:length] if length else data[words:])


def _ipv6(data: bytes) -> str:
    length = int.from_bytes(data[4:6], "big")
    source, target = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
    return _packet(data[6], source, target, data[40 : 40 + length] if length else data[40:])


def _packet(protocol: int, source: str, target: str, data: bytes) -> str:
    if protocol in (6, 17):
        return _transport(protocol, source, target, data)
    if protocol in (1, 58):
        return f"{source} > {target} {_icmp(protocol, data)}"
    return f"{source} > {target} {PROTOCOLS.get(protocol, f'protocol {protocol}')}, {len(data)} bytes"


def _transport(protocol: int, source: str, target: str, data: bytes) -> str:
    ports = struct.unpack_from("!HH", data)
    ends = [f"[{address}]" if ":" in address else address for address in (source, target)]
    way = f"{ends[0]}:{ports[0]} > {ends[1]}:{ports[1]}"
    if protocol == 17:
        known = next((f" {PORTS[port]}" for port in reversed(ports) if port in PORTS), "")
        return f"{way} UDP{known}, {len(data) - 8} bytes"
    flags = " ".join(name for bit, name in TCP_FLAGS if data[13] & bit)
    return f"{way} TCP {flags or 'no flags'}, {len(data) - (data[12] >> 4) * 4} bytes"


def _icmp(protocol: int, data: bytes) -> str:
    title, names = ("ICMP", ICMP) if protocol == 1 else ("ICMPv6", ICMPV6)
    name = names.get(data[0], f"type {data[0]}")
    if data[0] in ((0, 8) if protocol == 1 else (128, 129)):
        _, number = struct.unpack_from("!HH", data, 4)
        return f"{title} {name} {number}, {len(data) - 8} bytes"
    if protocol == 58 and data[0] in (135, 136):
        return f"{title} {name} {IPv6Address(data[8:24])}"
    return f"{title} {name}"


DESCRIBERS: dict[int, Callable[[bytes], str]] = {
    0x0800: _ipv4,
    0x0806: _arp,
    0x8035: _arp,
    0x86DD: _ipv6,
}
