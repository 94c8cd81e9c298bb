"""What a front-end has said about one ring, until all is said that a start takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from virtio.errors import ProtocolError
from virtio.virtqueue.state import QueueState

if TYPE_CHECKING:
    from virtio.device import Vring
    from virtio.memory import GuestMemory

__all__ = ["RingSetup", "state_from_base", "state_to_base"]

MAX_SIZE = 32768
_AVAIL, _USED = 1 << 7, 1 << 15  # flags of a packed ring's descriptor


def state_from_base(value: int, packed: bool) -> QueueState:
    """The position that SET_VRING_BASE gives.

    Split: a free-running 16-bit index. Packed: bits 0-14 the next descriptor, bit 15 its wrap counter, bits
    16-30 the next used one, bit 31 its wrap counter, as in QEMU and Linux. DPDK says nothing of the used one
    (its half is 0): then it is the same, as after any stop. Plain 0, as User-Mode Linux sends it, is a new ring
    here; `RingSetup` knows better where it is not.
    """
    if not packed:
        return QueueState(avail_index=value & 0xFFFF, used_index=value & 0xFFFF)
    if value == 0:
        return QueueState()
    if value >> 16 == 0:
        value |= value << 16
    return QueueState(
        avail_index=value & 0x7FFF,
        used_index=value >> 16 & 0x7FFF,
        avail_wrap=bool(value >> 15 & 1),
        used_wrap=bool(value >> 31 & 1),
    )


def state_to_base(state: QueueState, packed: bool) -> int:
    """The answer to GET_VRING_BASE, in the form of `state_from_base`."""
    if not packed:
        return state.avail_index & 0xFFFF
    avail = state.avail_index | state.avail_wrap << 15
    return avail | (state.used_index | state.used_wrap << 15) << 16


class RingSetup:
    """Drives one `Vring` of the device: the order of the messages is the front-end's business.

    A ring starts once it has a size and addresses and was given a kick descriptor (or a kick in-band). It
    does not wait for the kick itself: buffers may have been made available before.
    """

    def __init__(self, vring: Vring) -> None:
        self.vring = vring
        self.kicked = False
        self.kick_settled = False
        self.call_settled = False
        self.has_err = False
        self._started = False
        self._sized = False
        self._descriptors = 0
        self._used_address: int | None = None
        self._base = 0
        self._stopped = False  # the base is what the last stop was answered with

    def set_size(self, size: int) -> None:
        """SET_VRING_NUM. ProtocolError for a size that no ring can have."""
        if not 0 < size <= MAX_SIZE:
            raise ProtocolError(f"ring {self.vring.index} was given the size {size}; 1 to {MAX_SIZE} exist")
        self.vring.set_size(size)
        self._sized = True

    def set_addresses(self, descriptors: int, avail: int, used: int) -> None:
        """SET_VRING_ADDR, in the front-end's own addresses."""
        self.vring.set_addresses(descriptors, avail, used, user=True)
        self._descriptors = descriptors
        self._used_address = used

    def set_base(self, value: int) -> None:
        """SET_VRING_BASE. Interpreted at the start, when the kind of ring is sure."""
        self._stopped = self._stopped and value == self._base
        self._base = value

    def start(self, memory: GuestMemory, *, packed: bool, legacy: bool) -> None:
        """Begin if everything needed was said; nothing happens to a ring that runs."""
        if not (self.kicked and self._sized and self._used_address is not None) or self._started:
            return
        state = state_from_base(self._base, packed)
        if not packed:
            # The used index of a split ring is what the ring itself says (2.7.8), not part of the base.
            written = memory.read(memory.user_to_guest(self._used_address) + 2, 2)
            order = sys.byteorder if legacy else "little"
            state = QueueState(state.avail_index, int.from_bytes(written, order))
        elif self._base == 0 and self._went_round(memory):
            state = QueueState(avail_wrap=False, used_wrap=False)
        self.vring.set_state(state)
        self.vring.start()
        self._started = True

    def _went_round(self, memory: GuestMemory) -> bool:
        """Whether a packed ring with the base 0 is not new, but was left at the end of an odd round.

        Its first descriptor tells (2.8.1): what was used has both flags, what is available again the one of
        the used ones. A ring whose first descriptor was skipped in that round, as those of a longer chain are,
        looks like a new one to all but who stopped it.
        """
        flags = int.from_bytes(memory.read(memory.user_to_guest(self._descriptors) + 14, 2), "little")
        return bool(flags & _USED) or (self._stopped and bool(flags & _AVAIL))

    def stop(self, packed: bool) -> int:
        """GET_VRING_BASE: finish what is in flight, stop, and tell the position."""
        self.kicked = self.kick_settled = False
        if self._started:
            # A ring that met a fault has stopped by itself, and still knows where.
            self._started = False
            self._base = state_to_base(self.vring.stop(), packed)
            self._stopped = True
        return self._base

    def forget(self) -> None:
        """The device was reset: all must be said again. Descriptors were dropped with the reset."""
        self.kicked = self.kick_settled = self.call_settled = self.has_err = self._sized = self._started = (
            False
        )
        self._used_address = None
        self._base = 0
        self._stopped = False
