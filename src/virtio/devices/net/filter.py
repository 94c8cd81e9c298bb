"""The receive filter: modes, MAC addresses and VLANs (virtio 1.4, 5.1.6.5, Packet Receive Filtering)."""

# ruff: noqa: D102, F821 -- the .pxd declares these names and says what its methods do

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free

from virtio.errors import UsageError

__all__ = ["ReceiveFilter"]


class ReceiveFilter:
    """Says which received frames go to the driver; it never changes.

    ``macs`` are the addresses of 6 bytes that are wanted, unicast and multicast, the NIC's own among them.
    ``vlans`` are the ids of the VLANs that are wanted, None for all; only frames with an 802.1Q tag (0x8100)
    are judged by it. ``promisc`` wins over everything, then the VLAN decides, then ``nobcast``, ``nomulti``
    and ``nouni``, then ``allmulti`` and ``alluni``, then the addresses. A frame shorter than an Ethernet
    header is not wanted. UsageError for an address or an id that is none.
    """

    def __cinit__(self, *args, **kwargs):
        self.table = cython.NULL

    def __init__(
        self,
        macs=(),
        *,
        vlans=None,
        promisc=False,
        allmulti=False,
        alluni=False,
        nomulti=False,
        nouni=False,
        nobcast=False,
    ):
        if self.table != cython.NULL:
            raise UsageError("a filter does not change")
        self.promisc = promisc
        self.allmulti = allmulti
        self.alluni = alluni
        self.nomulti = nomulti
        self.nouni = nouni
        self.nobcast = nobcast
        self.filter_vlans = vlans is not None
        for vlan in vlans or ():
            if not 0 <= vlan < VLANS:
                raise UsageError(f"a VLAN id is 0 to 4095, not {vlan}")
            self.vlans[vlan >> 3] |= 1 << (vlan & 7)
        self.build({_key(mac) for mac in macs})

    def __dealloc__(self):
        free(self.table)

    def build(self, keys):
        """Fill the table, at most half full."""
        size = 1 << max(2 * len(keys), 1).bit_length()
        self.table = cython.cast(cython.pointer[uint64_t], calloc(size, cython.sizeof(uint64_t)))
        if self.table == cython.NULL:
            raise MemoryError
        self.mask = size - 1
        place: uint32_t
        for key in keys:
            place = spread(key) & self.mask
            while self.table[place]:
                place = (place + 1) & self.mask
            self.table[place] = key
        return 0

    def wants(self, frame):
        """Whether ``frame``, any bytes-like object that begins with an Ethernet header, is wanted."""
        data = bytes(frame)
        return bool(self.admits(data, len(data)))

    def admits(self, head, length):
        to = cython.cast(cython.pointer[uint8_t], head)
        key: uint64_t = 0
        i: cython.int
        if length < ETHERNET:
            return False
        if self.promisc:
            return True
        if self.filter_vlans and to[12] == 0x81 and to[13] == 0 and not in_vlans(self.vlans, to, length):
            return False
        for i in range(6):
            key = key << 8 | to[i]
        if key == BROADCAST:
            return not self.nobcast
        if to[0] & 1:
            return not self.nomulti and (self.allmulti or self.in_table(key | PRESENT))
        return not self.nouni and (self.alluni or self.in_table(key | PRESENT))

    def in_table(self, key):
        place: uint32_t = spread(key) & self.mask
        while self.table[place]:
            if self.table[place] == key:
                return True
            place = (place + 1) & self.mask
        return False


BROADCAST = cython.declare(uint64_t, 0xFFFFFFFFFFFF)
PRESENT = cython.declare(uint64_t, 1 << 48)
MIXER = cython.declare(uint64_t, 0x9E3779B97F4A7C15)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def spread(key: uint64_t) -> uint32_t:
    """Addresses of one vendor differ in few bits: mix them."""
    return cython.cast(uint32_t, (key * MIXER) >> 32)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def in_vlans(
    vlans: cython.pointer[uint8_t], frame: cython.pointer[cython.const[uint8_t]], length: uint32_t
) -> cython.bint:
    """Whether the id in the frame's tag is among ``vlans``; a tag cut short is in none."""
    if length < TAGGED:
        return False
    vlan: uint32_t = (frame[14] & 15) << 8 | frame[15]
    return vlans[vlan >> 3] >> (vlan & 7) & 1


def _key(mac):
    if len(mac) != 6:
        raise UsageError(f"a MAC address has 6 bytes, not {len(mac)}")
    return int.from_bytes(mac, "big") | 1 << 48
