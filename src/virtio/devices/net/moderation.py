"""How long one queue's notifications may wait (virtio 1.4, Network Device, Notifications Coalescing)."""

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.virtio.memory import atomic

__all__ = ["Moderation"]


class Moderation:
    """One queue's limits: that many packets, or that many microseconds since the first of them.

    Either of them 0: notifications do not wait.
    """

    def set(self, max_packets, max_usecs):
        """Set both, at once."""
        packets: uint32_t = max_packets
        usecs: uint32_t = max_usecs
        both: uint64_t = cython.cast(uint64_t, usecs) << 32 | packets
        atomic.store_u64(cython.address(self.both), both, atomic.RELAXED)

    @property
    def max_packets(self):
        """Packets after which the driver is notified."""
        return cython.cast(uint32_t, atomic.load_u64(cython.address(self.both), atomic.RELAXED))

    @property
    def max_usecs(self):
        """Microseconds after which the driver is notified."""
        return cython.cast(uint32_t, atomic.load_u64(cython.address(self.both), atomic.RELAXED) >> 32)

    def limits(self, packets, nanoseconds):
        both: uint64_t = atomic.load_u64(cython.address(self.both), atomic.RELAXED)
        packets[0] = cython.cast(uint32_t, both)
        nanoseconds[0] = cython.cast(int64_t, both >> 32) * 1000
        return packets[0] != 0 and nanoseconds[0] != 0
