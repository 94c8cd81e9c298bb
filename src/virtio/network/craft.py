"""Frames from a few words: ``arp:192.0.2.1``, ``ping:192.0.2.1``, ``udp:192.0.2.1:53``, or hexadecimal.

>>> Maker(bytes.fromhex("525400000001"), source="192.0.2.2").make("arp:192.0.2.1").hex()[:28]
'ffffffffffff5254000000010806'
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from virtio.errors import UsageError
from virtio.network.packet import IPV4, IPV6, Address, Datagram, checksum, ip_packet, udp_frame

__all__ = ["EVERYBODY", "FORMS", "Maker"]

EVERYBODY = b"\xff" * 6
SHORTEST = 60  # bytes of an Ethernet frame without its checksum (FCS)
UNKNOWN = "0.0.0.0"
SOURCE_PORT = 49152
ICMP, ICMPV6 = 1, 58

FORMS = {
    "arp:ADDRESS": "ask who has an IPv4 address",
    "ping:ADDRESS": "an ICMP or ICMPv6 echo request",
    "udp:ADDRESS:PORT": "a UDP datagram; an IPv6 address in brackets",
    "HEX": "the frame's bytes, from the destination address on",
}
"""What `Maker.make` understands, and what each is."""


@dataclass(frozen=True)
class Maker:
    """Makes frames that come from ``source_mac``, and from the IP address ``source``.

    They go to ``target_mac``. ``data`` is what a ping or datagram carries. A ``vlan`` tags them, and all are
    filled with zeros to ``size`` bytes, 60 at least. Frames in hexadecimal are sent as they are.
    """

    source_mac: bytes
    target_mac: bytes = EVERYBODY
    source: str | None = None
    data: bytes = b"pyvirtio"
    vlan: int | None = None
    size: int = SHORTEST

    def make(self, text: str, number: int = 1) -> bytes:
        """The frame that ``text`` describes; ``number`` is a ping's. Raises UsageError."""
        form, _, rest = text.partition(":")
        make = self._forms().get(form.lower())
        if make is None:
            return self._from_hex(text)
        frame = make(rest, number)
        if self.vlan is not None:
            frame = frame[:12] + struct.pack("!HH", 0x8100, self.vlan) + frame[12:]
        return frame.ljust(max(self.size, SHORTEST), b"\0")

    def _forms(self) -> dict[str, Callable[[str, int], bytes]]:
        return {"arp": self._arp, "ping": self._ping, "udp": self._udp}

    @staticmethod
    def _from_hex(text: str) -> bytes:
        try:
            frame = bytes.fromhex(text.replace(":", "").replace("-", ""))
        except ValueError:
            frame = b""
        if not frame:
            raise UsageError(f"{text!r} describes no frame", fix=f"write one of {', '.join(FORMS)}")
        return frame

    def _arp(self, rest: str, number: int) -> bytes:
        target, source = parse_address(rest), parse_address(self.source or UNKNOWN)
        if target.version != 4 or source.version != 4:
            raise UsageError(
                f"ARP asks for IPv4 addresses, not for {target}", fix="ping it, or give hexadecimal"
            )
        body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + self.source_mac + source.packed
        return self.target_mac + self.source_mac + b"\x08\x06" + body + bytes(6) + target.packed

    def _ping(self, rest: str, number: int) -> bytes:
        target = parse_address(rest)
        source = self._source_for(target)
        kind, protocol = (8, ICMP) if target.version == 4 else (128, ICMPV6)
        echo = struct.pack("!BBHHH", kind, 0, 0, 1, number & 0xFFFF) + self.data
        pseudo = b""
        if target.version == 6:
            pseudo = source.packed + target.packed + struct.pack("!II", len(echo), ICMPV6)
        echo = echo[:2] + struct.pack("!H", checksum(pseudo + echo)) + echo[4:]
        ethertype = struct.pack("!H", IPV4 if target.version == 4 else IPV6)
        return self.target_mac + self.source_mac + ethertype + ip_packet(source, target, protocol, echo)

    def _udp(self, rest: str, number: int) -> bytes:
        host, _, port = rest.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UsageError(f"udp:{rest} has no port", fix="write udp:ADDRESS:PORT")
        target = parse_address(host.removeprefix("[").removesuffix("]"))
        source = self._source_for(target)
        ends = (source, target, SOURCE_PORT, int(port))
        return udp_frame(Datagram(self.source_mac, self.target_mac, *ends, self.data))

    def _source_for(self, target: Address) -> Address:
        if self.source is None:
            raise UsageError(
                f"a packet to {target} needs an address to come from", fix="give --source ADDRESS"
            )
        source = parse_address(self.source)
        if source.version != target.version:
            raise UsageError(f"a packet from {source} to {target} mixes IPv4 and IPv6")
        return source


def parse_address(text: str) -> Address:
    """An IP address. Raises UsageError."""
    try:
        return ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is no IP address") from None
