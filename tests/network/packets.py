"""Packets as a plain-Python model makes and reads them."""

from __future__ import annotations

from dataclasses import dataclass

MACS = bytes.fromhex("020000000002020000000001")
CHECK_AT = {6: 16, 17: 6}  # of the checksum in a TCP, UDP header


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass
class Packet:
    """An Ethernet frame with TCP or UDP in it."""

    payload: bytes
    six: bool = False
    protocol: int = 6
    tags: int = 0
    options: bytes = b""  # IPv4 options, or IPv6 extension headers of type 60
    tcp_options: bytes = b""
    flags: int = 0x18
    sequence: int = 0xFFFFFF00
    id: int = 0xFFFE

    @property
    def network_at(self) -> int:
        return 14 + 4 * self.tags

    @property
    def transport_at(self) -> int:
        return self.network_at + (40 if self.six else 20) + len(self.options)

    @property
    def headers(self) -> int:
        return self.transport_at + (20 + len(self.tcp_options) if self.protocol == 6 else 8)

    def frame(self) -> bytes:
        """As a driver hands it over: its checksum field holds the sum of the pseudo header."""
        data = bytearray(self._link() + self._network() + self._transport() + self.payload)
        at = self.transport_at + CHECK_AT[self.protocol]
        data[at : at + 2] = (~checksum(self._pseudo(data)) & 0xFFFF).to_bytes(2, "big")
        return bytes(data)

    def _pseudo(self, data: bytes) -> bytes:
        ip = data[self.network_at :]
        addresses = ip[8:40] if self.six else ip[12:20]
        length = len(data) - self.transport_at
        return bytes(addresses) + self.protocol.to_bytes(4, "big") + length.to_bytes(4, "big")

    def _link(self) -> bytes:
        tag = bytes.fromhex("88a80007") + bytes.fromhex("81000009")
        return MACS + tag[8 - 4 * self.tags :] + (b"\x86\xdd" if self.six else b"\x08\x00")

    def _network(self) -> bytes:
        length = len(self.options) + len(self._transport()) + len(self.payload)
        if self.six:
            head = bytearray.fromhex("6b000000 0000 00 40" + "20010db8" * 4 + "20010db9" * 4)
            head[4:6] = length.to_bytes(2, "big")
            head[6] = 60 if self.options else self.protocol
            return bytes(head) + self.options
        head = bytearray.fromhex("4500 0000 0000 4000 4000 0000 c0000201 c6336402")
        head[0] = 0x45 + len(self.options) // 4
        head[2:4] = (20 + length).to_bytes(2, "big")
        head[4:6] = self.id.to_bytes(2, "big")
        head[9] = self.protocol
        head[10:12] = checksum(bytes(head) + self.options).to_bytes(2, "big")
        return bytes(head) + self.options

    def _transport(self) -> bytes:
        if self.protocol == 17:
            length = min(8 + len(self.payload), 0xFFFF)
            return bytes.fromhex("04d20035") + length.to_bytes(2, "big") + b"\0\0"
        head = bytearray.fromhex("04d20035 00000000 01020304 5000 1000 0000 0000")
        head[4:8] = self.sequence.to_bytes(4, "big")
        head[12] = (20 + len(self.tcp_options)) // 4 << 4
        head[13] = self.flags
        return bytes(head) + self.tcp_options


@dataclass
class Parsed:
    """What a receiver reads of a frame, its checksums verified."""

    link: bytes
    ip: bytes
    transport: bytes
    payload: bytes


def parse(frame: bytes, model: Packet) -> Parsed:
    """Take a finished frame of ``model``'s shape apart; AssertionError for a wrong length or checksum."""
    ip_at, at = model.network_at, model.transport_at
    ip = frame[ip_at:at]
    size = (frame[at + 12] >> 4) * 4 if model.protocol == 6 else 8
    if model.six:
        assert int.from_bytes(ip[4:6], "big") == len(frame) - ip_at - 40
        addresses = ip[8:40]
    else:
        assert int.from_bytes(ip[2:4], "big") == len(frame) - ip_at
        assert checksum(ip) == 0
        addresses = ip[12:20]
    length = len(frame) - at
    pseudo = addresses + model.protocol.to_bytes(4, "big") + length.to_bytes(4, "big")
    assert checksum(pseudo + frame[at:]) == 0
    if model.protocol == 17:
        assert int.from_bytes(frame[at + 4 : at + 6], "big") == length
    return Parsed(frame[:ip_at], ip, frame[at : at + size], frame[at + size :])
