"""What the two ends of a virtqueue keep in mind, whichever ring lies between them."""

from __future__ import annotations

from collections.abc import Sequence

from ..state import QueueState
from .chain import DESCRIPTOR, Chain, Malformed
from .memory import Memory

__all__ = ["EVENT_IDX", "INDIRECT_DESC", "IN_ORDER", "DeviceEnd", "DriverEnd"]

# Feature bits (virtio 1.4, 6), as masks.
INDIRECT_DESC = 1 << 28
EVENT_IDX = 1 << 29
IN_ORDER = 1 << 35

Buffers = Sequence[tuple[int, int]]


class End:
    """Where the ring is, what was negotiated, and where this end stands."""

    def __init__(
        self,
        memory: Memory,
        size: int,
        descriptors: int,
        driver_area: int,
        device_area: int,
        *,
        features: int = 0,
        state: QueueState | None = None,
    ) -> None:
        self.memory = memory
        self.size = size
        self.descriptors = descriptors
        self.driver_area = driver_area
        self.device_area = device_area
        self.indirect = bool(features & INDIRECT_DESC)
        self.event_idx = bool(features & EVENT_IDX)
        self.in_order = bool(features & IN_ORDER)
        state = state or QueueState()
        self.avail_index, self.avail_wrap = state.avail_index, state.avail_wrap
        self.used_index, self.used_wrap = state.used_index, state.used_wrap
        # In the order of taking (device) or adding (driver).
        self.outstanding: list[Chain] = []
        self.begin()

    def begin(self) -> None:
        """Set up what this kind of end keeps besides."""

    def state(self) -> QueueState:
        """Where this end stands; complete only when nothing is outstanding."""
        return QueueState(self.avail_index, self.used_index, self.avail_wrap, self.used_wrap)


class DeviceEnd(End):
    """The device's bookkeeping: what it took, and what it finished but did not yet write to the ring."""

    # With IN_ORDER: write one used descriptor for a batch of chains wherever that loses nothing; unless
    # `merge_written`, only where there was nothing to be written to.
    merge = False
    merge_written = True

    def begin(self) -> None:
        """Nothing is finished yet."""
        self.finished: list[Chain] = []

    def give(self, chain: Chain, written: int) -> None:
        """Finish a chain, of which the first ``written`` writable bytes were written.

        With IN_ORDER it waits until all that were taken before it are finished (2.7.9, 2.8.8).
        """
        chain.written = written
        if not self.in_order:
            self.outstanding.remove(chain)
            self.finished.append(chain)
        while self.in_order and self.outstanding and self.outstanding[0].written is not None:
            self.finished.append(self.outstanding.pop(0))

    def batches(self) -> list[list[Chain]]:
        """What is finished, in groups that get one used descriptor each, and forget it.

        The driver assumes a buffer that was skipped to have been used completely (2.7.9, 2.8.8), so only
        chains that were may be merged with the one after them.
        """
        groups: list[list[Chain]] = []
        for chain in self.finished:
            last = groups[-1][-1] if groups else None
            if last and self.skips(last):
                groups[-1].append(chain)
            else:
                groups.append([chain])
        self.finished = []
        return groups

    def skips(self, chain: Chain) -> bool:
        """Needs a chain no used descriptor of its own?"""
        if not (self.in_order and self.merge) or chain.written != chain.writable_length:
            return False
        return self.merge_written or not chain.writable


class DriverEnd(End):
    """The driver's bookkeeping: which descriptors are free, and what the device has."""

    # Address of memory for indirect tables, one for each descriptor or buffer id, and descriptors in each.
    tables = 0
    table_entries = 4

    @property
    def free_descriptors(self) -> int:
        """Descriptors of the ring that no chain occupies."""
        return self.size - sum(chain.slots for chain in self.outstanding)

    def table_of(self, index: int) -> int:
        """Address of the indirect table that belongs to a descriptor or buffer id."""
        return self.tables + index * self.table_entries * DESCRIPTOR

    def fits(self, readable: Buffers, writable: Buffers, indirect: bool) -> bool:
        """Has the ring room for a chain of these buffers? None is longer than it (2.7.5.3.1, 2.8.17)."""
        count = len(readable) + len(writable)
        if not 1 <= count <= self.size:
            raise ValueError(f"a chain of {count} buffers for a queue of size {self.size}")
        if indirect and not (self.indirect and count <= self.table_entries):
            raise ValueError("INDIRECT_DESC was not negotiated, or the tables are too small")
        return (1 if indirect else count) <= self.free_descriptors

    def settle(self, id: int, written: int) -> list[Chain]:
        """The chains that a used descriptor with this id finishes, taken off the books.

        That is the one it names and, with IN_ORDER, all that were added before it, assumed to have been
        used completely (2.7.9, 2.8.8).
        """
        position = next((at for at, chain in enumerate(self.outstanding) if chain.id == id), None)
        if position is None:
            raise Malformed("USED_ID", id)
        first = 0 if self.in_order else position
        settled = self.outstanding[first : position + 1]
        del self.outstanding[first : position + 1]
        if written > settled[-1].writable_length:
            raise Malformed("USED_LENGTH", written)
        for chain in settled[:-1]:
            chain.written = chain.writable_length
        settled[-1].written = written
        return settled
