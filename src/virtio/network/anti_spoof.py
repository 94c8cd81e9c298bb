"""Lets out of a guest only what comes from its own addresses.

Looked at is what a neighbour would believe: the source of the Ethernet header, the source of IP packets, and
the sender in ARP and in IPv6 neighbour discovery; below any VLAN tags. Other protocols carry no address that
this could check: once addresses are given, they do not pass.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

import cython
from cython.cimports.libc.stdint import uint8_t, uint16_t, uint32_t
from cython.cimports.libc.string import memcmp, memcpy
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.copies import copy_out

from virtio.errors import NetworkUrlError
from virtio.network.link import Link

__all__ = ["AntiSpoofLink", "parse_mac", "parse_prefix"]

MAC = re.compile(r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", re.IGNORECASE)


def parse_mac(text: str) -> bytes:
    """Six bytes from ``52:54:00:12:34:56``. Raises NetworkUrlError."""
    if not MAC.fullmatch(text):
        raise NetworkUrlError(
            f"only-mac={text}: it takes an address such as 52:54:00:12:34:56, or several with commas"
        )
    mac = bytes.fromhex(re.sub("[:-]", "", text))
    if mac[0] & 1:
        raise NetworkUrlError(f"only-mac={text} is a group's address; no frame comes from there")
    return mac


def parse_prefix(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or a network. Raises NetworkUrlError."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise NetworkUrlError(
            f"only-ip={text}: it takes an address or network such as 192.0.2.7 or 2001:db8::/64, or several"
        ) from None


class AntiSpoofLink:
    """Drops what the guest sends under addresses other than ``macs`` and ``ips``; none given: any.

    IPv6 that is not listed does not pass either: a guest that is to speak it needs its link-local address or
    ``fe80::/10`` too. What a guest without an address must send passes: DHCP from 0.0.0.0, ARP probes, and
    the ICMPv6 of duplicate address detection, for addresses that are its own.
    """

    def __init__(self, inner: Link, macs: Sequence[str] = (), ips: Sequence[str] = ()) -> None:
        super().__init__(inner)
        if len(macs) > MOST_ADDRESSES or len(ips) > MOST_ADDRESSES:
            raise NetworkUrlError(f"at most {MOST_ADDRESSES} addresses can be allowed")
        for text in macs:
            self.add_mac(parse_mac(text))
        for text in ips:
            self.add_prefix(parse_prefix(text))

    def add_mac(self, mac):
        memcpy(self.macs[self.mac_count], cython.cast(cython.p_const_char, mac), 6)
        self.mac_count += 1

    def add_prefix(self, network):
        address: bytes = network.network_address.packed
        prefix: cython.pointer[Prefix] = cython.address(self.prefixes[self.prefix_count])
        prefix.length = len(address)
        prefix.bits = network.prefixlen
        memcpy(prefix.address, cython.cast(cython.p_const_char, address), prefix.length)
        self.prefix_count += 1

    def put(self, queue, frames, count):
        """Hand on in runs of frames that pass."""
        i: cython.int
        start: cython.int = 0
        verdict: cython.int
        taken: cython.int
        for i in range(count):
            verdict = self.judge(cython.address(frames[i]))
            if verdict == PASS:
                continue
            if i > start:
                taken = self.inner.put(queue, frames + start, i - start)
                if taken < i - start:
                    return start + taken
            atomic.add_u64(cython.address(self.refused[verdict]), 1, atomic.RELAXED)
            start = i + 1
        if count > start:
            return start + self.inner.put(queue, frames + start, count - start)
        return count

    def judge(self, frame):
        data: uint8_t[SEEN]
        size: uint32_t = copy_out(frame, cython.cast(cython.p_char, data), SEEN)
        at: uint32_t = 14
        if size < at or (self.mac_count > 0 and not self.own_mac(data + 6)):
            return WRONG_MAC
        kind: uint16_t = word(data + 12)
        while kind in (VLAN, SERVICE_VLAN, OLD_SERVICE_VLAN) and at + 4 <= size:
            kind = word(data + at + 2)
            at += 4
        if kind in (ARP, RARP):
            return self.judge_arp(data + at, size - at)
        if kind == IPV4 and self.prefix_count > 0:
            return self.judge_ipv4(data + at, size - at)
        if kind == IPV6:
            return self.judge_ipv6(data + at, size - at)
        return PASS if self.prefix_count == 0 else WRONG_IP  # nothing else names a sender that is known here

    def judge_arp(self, packet, size):
        """RFC 826: sender addresses at 8 and 14, for Ethernet and IPv4."""
        if size < 28 or word(packet) != 1 or word(packet + 2) != IPV4 or packet[4] != 6 or packet[5] != 4:
            return WRONG_IP
        if self.mac_count > 0 and not self.own_mac(packet + 8):
            return WRONG_MAC
        if is_zero(packet + 14, 4):
            return PASS  # a probe (RFC 5227) or RARP: claims nothing
        return PASS if self.own_ip(packet + 14, 4) else WRONG_IP

    def judge_ipv4(self, packet, size):
        if size < 20 or packet[0] >> 4 != 4:
            return WRONG_IP
        header: uint32_t = (packet[0] & 15) * 4
        whole: cython.bint = not (word(packet + 6) & 0x3FFF)
        if is_zero(packet + 12, 4):
            # A DHCP client that has no address yet: UDP from port 68 to 67.
            asks: cython.bint = packet[9] == 17 and whole and header >= 20 and header + 4 <= size
            if asks and word(packet + header) == 68 and word(packet + header + 2) == 67:
                return PASS
        return PASS if self.own_ip(packet + 12, 4) else WRONG_IP

    def judge_ipv6(self, packet, size):
        if size < 40 or packet[0] >> 4 != 6:
            return WRONG_IP
        unspecified: cython.bint = is_zero(packet + 8, 16)
        if not unspecified and not self.own_ip(packet + 8, 16):
            return WRONG_IP
        kind: cython.int = packet[6]
        at: uint32_t = 40
        part: cython.bint = False
        # Hop-by-hop, routing and destination options have a length; a fragment's header has none.
        while kind == 0 or kind == 43 or kind == 60 or kind == 44:
            if at + 8 > size:
                return WRONG_IP
            part = part or kind == 44
            if kind == 44 and word(packet + at + 2) & 0xFFF8:
                return WRONG_IP if unspecified else PASS  # not a first fragment: no header is in it
            size_of: uint32_t = 8 if kind == 44 else (packet[at + 1] + 1) * 8
            kind = packet[at]
            at += size_of
        if kind == 58:
            if at > size:
                return WRONG_IP
            return self.judge_icmpv6(packet + at, size - at, packet + 8, unspecified, part)
        return WRONG_IP if unspecified else PASS

    def judge_icmpv6(self, message, size, source, unspecified, part):
        if size < 4:
            return WRONG_IP
        if 133 <= message[0] <= 137:
            return WRONG_IP if part else self.judge_neighbour(message, size)  # RFC 6980: never in parts
        # Without an address: reports of group membership (MLD) only.
        return PASS if not unspecified or message[0] in (131, 132, 143) else WRONG_IP

    def judge_neighbour(self, message, size):
        """RFC 4861: what solicitations and advertisements say of their sender."""
        kind: cython.int = message[0]
        at: uint32_t = 24
        if kind == 133:
            at = 8
        elif kind == 134:
            at = 16
        elif kind == 137:
            at = 40
        if size < at or (kind == 136 and not self.own_ip(message + 8, 16)):
            return WRONG_IP
        wanted: cython.int = 2 if kind == 136 else 1
        while at + 8 <= size:
            if message[at + 1] == 0:
                return WRONG_IP
            if (
                kind != 137
                and message[at] == wanted
                and self.mac_count > 0
                and not self.own_mac(message + at + 2)
            ):
                return WRONG_MAC
            at += message[at + 1] * 8
        return PASS

    def own_mac(self, address):
        i: cython.int
        for i in range(self.mac_count):  # noqa: SIM110 -- runs without the GIL
            if memcmp(self.macs[i], address, 6) == 0:
                return True
        return False

    def own_ip(self, address, length):
        """Whether an address is allowed; any is, if none are listed."""
        i: cython.int
        for i in range(self.prefix_count):
            if self.prefixes[i].length == length and matches(cython.address(self.prefixes[i]), address):
                return True
        return self.prefix_count == 0

    def stats(self) -> dict[str, int]:
        """The inner link's, and frames refused: ``spoofed_mac`` and ``spoofed_ip``."""
        return self.inner.stats() | {
            "spoofed_mac": self.refused[WRONG_MAC],
            "spoofed_ip": self.refused[WRONG_IP],
        }


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def word(data: cython.pointer[cython.const[uint8_t]]) -> uint16_t:
    return (data[0] << 8) | data[1]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def is_zero(data: cython.pointer[cython.const[uint8_t]], length: cython.int) -> cython.bint:
    i: cython.int
    for i in range(length):  # noqa: SIM110 -- runs without the GIL
        if data[i] != 0:
            return False
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def matches(prefix: cython.pointer[Prefix], address: cython.pointer[cython.const[uint8_t]]) -> cython.bint:
    whole: cython.int = prefix.bits // 8
    rest: cython.int = prefix.bits % 8
    if memcmp(prefix.address, address, whole) != 0:
        return False
    return rest == 0 or (prefix.address[whole] ^ address[whole]) >> (8 - rest) == 0
