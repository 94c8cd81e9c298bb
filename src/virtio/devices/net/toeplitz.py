"""The Toeplitz hash of received packets (virtio 1.4, Network Device, Hash calculation for incoming packets).

Each input bit that is set adds 32 bits of the key, those that begin at its place. The sums of every value of
every input byte are computed once for a key; a packet then costs one look-up a byte.
"""

# ruff: noqa: D102, F821 -- the .pxd declares these names and says what its methods do

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t
from cython.cimports.virtio.devices.net import tunnel
from cython.cimports.virtio.devices.net.headers import TCP, Flow, octets, read_flow

from virtio.errors import UsageError

__all__ = ["Hasher"]


class Hasher:
    """Hashes packets with ``key`` (40 bytes at most, zeros follow a shorter one).

    ``types`` is a mask of HASH_TYPE_*: the kinds of packets that have a hash; ``tunnels`` one of
    HASH_TUNNEL_TYPE_*: in packets of these the inner packet is what is hashed. UsageError for a longer key.
    """

    def __init__(self, key, types, tunnels=0):
        if len(key) > KEY:
            raise UsageError(f"a key has {KEY} bytes at most, not {len(key)}")
        self.types = types
        self.tunnels = tunnels
        number = int.from_bytes(bytes(key).ljust(KEY, b"\0"), "big")
        for at in range(INPUT):
            windows = [number >> (8 * KEY - 32 - 8 * at - bit) & 0xFFFFFFFF for bit in range(8)]
            for value in range(256):
                total = 0
                for bit in range(8):
                    if value & 0x80 >> bit:
                        total ^= windows[bit]
                self.rows[at][value] = total

    def hash_of(self, frame):
        """``(hash, HASH_REPORT_*)`` of an Ethernet frame, any bytes-like object; (0, 0): it has none."""
        value: uint32_t = 0
        report: uint16_t = 0
        data: bytes = bytes(frame)
        self.hash(
            cython.cast(octets, cython.cast(cython.p_char, data)),
            len(data),
            cython.address(value),
            cython.address(report),
        )
        return value, report

    def hash(self, frame, length, value, report):
        flow = cython.declare(Flow)
        kind: cython.int
        value[0] = 0
        report[0] = 0
        read_flow(frame, length, cython.address(flow))
        if self.tunnels:
            tunnel.enter(cython.address(flow), self.tunnels)
        if flow.address_bytes == 0:
            return False
        kind = self.choose_type(cython.address(flow))
        if kind == 0:
            return False
        source: octets = flow.home if kind > UDPV6 else flow.source
        target: octets = flow.route if kind > UDPV6 else flow.target
        size: cython.int = flow.address_bytes
        total: uint32_t = self.fold(0, source, size, 0)
        total = self.fold(size, target, size, total)
        if (kind - 1) % 3:
            total = self.fold(2 * size, flow.ports, 4, total)
        value[0] = total
        report[0] = kind
        return True

    def choose_type(self, flow):
        """The HASH_REPORT_* of the hash to calculate; type bit N is report N + 1."""
        kind: cython.int = 0  # with ports, relative to the one with addresses alone
        if flow.ports != cython.NULL:
            kind = 1 if flow.protocol == TCP else 2
        base: cython.int = IPV4 if flow.address_bytes == 4 else IPV6
        if flow.extended:
            if kind and self.types >> (IPV6_EX - 1 + kind) & 1:
                return IPV6_EX + kind
            if self.types >> (IPV6_EX - 1) & 1:
                return IPV6_EX
        if kind and self.types >> (base - 1 + kind) & 1:
            return base + kind
        return base if self.types >> (base - 1) & 1 else 0

    def fold(self, at, data, count, value):
        """Add ``count`` bytes, the first being input byte ``at``, to a hash."""
        i: cython.int
        for i in range(count):
            value ^= self.rows[at + i][data[i]]
        return value
