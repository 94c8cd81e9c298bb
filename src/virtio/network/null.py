"""``null:`` and ``loop:``: links without a world, to measure everything else."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.virtio.memory import atomic

from virtio.spec import net
from virtio.spec.features import mask

__all__ = ["LoopLink", "NullLink"]

OFFLOADS = mask(net.F_CSUM, net.F_HOST_TSO4, net.F_HOST_TSO6, net.F_HOST_ECN, net.F_HOST_UFO, net.F_HOST_USO)

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do


class NullLink:
    """Takes every frame, and nothing ever comes back."""

    @property
    def name(self) -> str:
        """Its URL."""
        return "null:"

    @property
    def accepts(self) -> int:
        """Everything: nobody reads it, or the NIC itself."""
        return OFFLOADS

    def put(self, queue, frames, count):
        i: cython.int
        total: uint64_t = 0
        for i in range(count):
            total += frames[i].length
        atomic.add_u64(cython.address(self.frames), count, atomic.RELAXED)
        atomic.add_u64(cython.address(self.bytes), total, atomic.RELAXED)
        return count

    def stats(self) -> dict[str, int]:
        """``frames`` and ``bytes`` that the guest sent."""
        return {"frames": self.frames, "bytes": self.bytes}


class LoopLink:
    """Sends every frame back to where it came from."""

    @property
    def name(self) -> str:
        """Its URL."""
        return "loop:"

    def put(self, queue, frames, count):
        taken: cython.int = 0
        NullLink.put(self, queue, frames, count)
        if self.guest is not None:
            taken = self.guest.put(queue, frames, count)
        atomic.add_u64(cython.address(self.dropped), count - taken, atomic.RELAXED)
        return count

    def stats(self) -> dict[str, int]:
        """``frames`` and ``bytes`` that the guest sent, and how many were ``dropped`` on the way back."""
        return {**NullLink.stats(self), "dropped": self.dropped}
