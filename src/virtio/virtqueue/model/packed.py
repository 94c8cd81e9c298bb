"""The packed virtqueue, by the book (virtio 1.4, 2.8).

One ring that both ends write, and two small areas that say who wants to be notified::

    descriptor ring             size x { u64 addr, u32 len, u16 id, u16 flags }
    driver event suppression    u16 offset and wrap, u16 flags      written by the driver
    device event suppression    the same                            written by the device

Each end walks round the ring and keeps a wrap counter, which starts as 1 and flips at the ring's end
(2.8.1). A descriptor is available when AVAIL equals the driver's counter and USED does not; it is used
when both equal the device's counter.
"""

from __future__ import annotations

from .chain import DESCRIPTOR, INDIRECT, LONGEST_TABLE, NEXT, WRITE, Chain, Malformed
from .ends import Buffers, DeviceEnd, DriverEnd
from .memory import Memory

__all__ = ["PackedDevice", "PackedDriver"]

AVAIL = 1 << 7  # VIRTQ_DESC_F_AVAIL
USED = 1 << 15  # VIRTQ_DESC_F_USED

# Event suppression flags (2.8.10).
ENABLE = 0
DISABLE = 1
DESC = 2

Position = tuple[int, bool]


def advance(position: Position, steps: int, size: int) -> Position:
    """Where one is after ``steps`` descriptors; the counter flips each time the ring's end is passed."""
    index, wrap = position
    for _ in range(steps):
        index += 1
        if index == size:
            index, wrap = 0, not wrap
    return index, wrap


def passed(event: Position, before: Position, steps: int, size: int) -> bool:
    """Was ``event`` among the ``steps`` descriptors from ``before`` on?"""
    return any(advance(before, step, size) == event for step in range(steps))


def event_wanted(memory: Memory, area: int, event_idx: bool, before: Position, steps: int, size: int) -> bool:
    """Does the owner of this event suppression area want to hear of these descriptors (2.8.10, 2.8.14)?

    DESC is valid with EVENT_IDX only and 3 is reserved: when in doubt, notify. Needs a full barrier between
    writing the descriptors and this (2.8.21.3.1).
    """
    place, flags = memory.load(area, 2), memory.load(area + 2, 2) & 3
    if steps == 0 or flags == DISABLE:
        return False
    if flags != DESC or not event_idx or place & 0x7FFF >= size:
        return True
    return passed((place & 0x7FFF, bool(place >> 15)), before, steps, size)


def ask_for_events(memory: Memory, area: int, event_idx: bool, position: Position) -> None:
    """Ask to be notified, with EVENT_IDX from this descriptor on."""
    index, wrap = position
    memory.store(area, 2, index | wrap << 15)
    memory.store(area + 2, 2, DESC if event_idx else ENABLE)


class PackedDevice(DeviceEnd):
    """The device's end of a packed virtqueue."""

    def flags_at(self, index: int) -> int:
        """The flags of a descriptor; an acquire, for all else in it is read after them."""
        return self.memory.load(self.descriptors + DESCRIPTOR * index + 14, 2)

    def is_available(self, flags: int, wrap: bool) -> bool:
        """AVAIL matches the driver's wrap counter, USED its inverse (2.8.1)."""
        return bool(flags & AVAIL) == wrap and bool(flags & USED) != wrap

    def available(self) -> bool:
        """Has the driver made anything available that was not taken?"""
        return self.is_available(self.flags_at(self.avail_index), self.avail_wrap)

    def take(self) -> Chain | None:
        """The next available chain, or None. One location tells: the next descriptor's flags (2.8.2)."""
        if not self.available():
            return None
        chain = self.walk()
        # A driver must not change what it made available before it is used (2.8.16), so together they fit.
        if chain.slots + sum(held.slots for held in self.outstanding) > self.size:
            raise Malformed("TOO_MANY_OUTSTANDING", chain.id)
        position = self.avail_index, self.avail_wrap
        self.avail_index, self.avail_wrap = advance(position, chain.slots, self.size)
        self.outstanding.append(chain)
        return chain

    def walk(self) -> Chain:
        """Read a list of descriptors from where the device stands (2.8.6)."""
        chain = Chain()
        index, wrap = self.avail_index, self.avail_wrap
        while True:
            address, length, chain.id, flags = self.descriptor(self.descriptors + DESCRIPTOR * index)
            # All of a list is available before its first descriptor is (2.8.17).
            if not self.is_available(flags, wrap):
                raise Malformed("PACKED_TRUNCATED", index)
            chain.slots += 1
            if flags & INDIRECT:
                self.read_table(chain, address, length, flags)
                return chain
            chain.append(address, length, bool(flags & WRITE))
            self.memory.check(address, length)
            if not flags & NEXT:
                return chain
            # No list is longer than the queue (2.8.17).
            if chain.slots == self.size:
                raise Malformed("LOOP", index)
            index, wrap = advance((index, wrap), 1, self.size)

    def read_table(self, chain: Chain, address: int, length: int, flags: int) -> None:
        """Read an indirect table: all its entries, in order; only their WRITE flag counts (2.8.7)."""
        if not self.indirect:
            raise Malformed("INDIRECT_NOT_NEGOTIATED")
        # A list is either all direct or one indirect descriptor (2.8.5, 2.8.19).
        if flags & NEXT or chain.slots > 1:
            raise Malformed("INDIRECT_WITH_NEXT")
        if length == 0 or length % DESCRIPTOR:
            raise Malformed("INDIRECT_SIZE", length)
        if length // DESCRIPTOR > max(self.size, LONGEST_TABLE):
            raise Malformed("LOOP", length)
        if address + length > 1 << 64:
            raise Malformed("ADDRESS_WRAPS", address)
        for entry in range(address, address + length, DESCRIPTOR):
            start, count, _, entry_flags = self.descriptor(entry)
            chain.append(start, count, bool(entry_flags & WRITE))
            self.memory.check(start, count)

    def descriptor(self, address: int) -> tuple[int, int, int, int]:
        """Its address, length, id and flags."""
        load = self.memory.load
        return load(address, 8), load(address + 8, 4), load(address + 12, 2), load(address + 14, 2)

    def publish(self) -> bool:
        """Write used descriptors for what is finished. True if the driver must be notified."""
        before, steps = (self.used_index, self.used_wrap), 0
        for batch in self.batches():
            self.write_used(batch[-1])
            slots = sum(chain.slots for chain in batch)
            self.used_index, self.used_wrap = advance((self.used_index, self.used_wrap), slots, self.size)
            steps += slots
        return event_wanted(self.memory, self.driver_area, self.event_idx, before, steps, self.size)

    def write_used(self, chain: Chain) -> None:
        """A used descriptor: id, length, and last the flags, a release (2.8.1, 2.8.3, 2.8.4)."""
        at = self.descriptors + DESCRIPTOR * self.used_index
        written = chain.written or 0
        self.memory.store(at + 8, 4, written)
        self.memory.store(at + 12, 2, chain.id)
        flags = (AVAIL | USED) if self.used_wrap else 0
        self.memory.store(at + 14, 2, flags | (WRITE if written else 0))

    def enable_notifications(self, after: int = 0) -> bool:
        """Ask for notifications (2.8.10). True if something is available already: look after asking.

        With EVENT_IDX the first ``after`` descriptors to come may go without.
        """
        position = advance((self.avail_index, self.avail_wrap), after, self.size)
        ask_for_events(self.memory, self.device_area, self.event_idx, position)
        return self.available()

    def disable_notifications(self) -> None:
        """Ask for none."""
        self.memory.store(self.device_area + 2, 2, DISABLE)


class PackedDriver(DriverEnd):
    """The driver's end of a packed virtqueue."""

    def begin(self) -> None:
        """Nothing is added, all descriptors are free."""
        self.free_ids = list(range(self.size))
        self.published = self.avail_index, self.avail_wrap
        # Flags of the first descriptor added since the last publish, held back until then, and how many
        # descriptors were.
        self.held: tuple[int, int] | None = None
        self.added = 0

    def add(self, readable: Buffers, writable: Buffers, token: int, indirect: bool = False) -> bool:
        """Offer a chain; False when there is no room. The device sees it after `publish` (2.8.21.1)."""
        if not self.fits(readable, writable, indirect):
            return False
        id = self.free_ids.pop(0)
        elements = [(*buffer, 0) for buffer in readable] + [(*buffer, WRITE) for buffer in writable]
        if indirect:
            table = self.table_of(id)
            for at, (address, length, flags) in enumerate(elements):
                self.write_descriptor(table + DESCRIPTOR * at, address, length, 0)
                self.memory.store(table + DESCRIPTOR * at + 14, 2, flags)
            elements = [(table, DESCRIPTOR * len(elements), INDIRECT)]
        for at, (address, length, flags) in enumerate(elements):
            self.place(address, length, id, flags | (NEXT if at + 1 < len(elements) else 0))
        self.outstanding.append(Chain(id, len(elements), list(readable), list(writable), token))
        return True

    def place(self, address: int, length: int, id: int, flags: int) -> None:
        """Fill the next descriptor. Its id counts in a list's last one, and does no harm in the others.

        The device must see a list whole (2.8.17): the first descriptor's flags are written last, in
        `publish`, and for a batch of lists just the first's of all.
        """
        flags |= AVAIL if self.avail_wrap else USED
        at = self.descriptors + DESCRIPTOR * self.avail_index
        self.write_descriptor(at, address, length, id)
        if self.held is None:
            self.held = at + 14, flags
        else:
            self.memory.store(at + 14, 2, flags)
        self.added += 1
        position = self.avail_index, self.avail_wrap
        self.avail_index, self.avail_wrap = advance(position, 1, self.size)

    def write_descriptor(self, at: int, address: int, length: int, id: int) -> None:
        """struct pvirtq_desc but for its flags."""
        self.memory.store(at, 8, address)
        self.memory.store(at + 8, 4, length)
        self.memory.store(at + 12, 2, id)

    def publish(self) -> bool:
        """Expose what was added: a release. True if the device must be notified."""
        if self.held is not None:
            self.memory.store(self.held[0], 2, self.held[1])
        before, steps = self.published, self.added
        self.held, self.added, self.published = None, 0, (self.avail_index, self.avail_wrap)
        return event_wanted(self.memory, self.device_area, self.event_idx, before, steps, self.size)

    def done(self) -> bool:
        """Has the device finished anything that was not reaped? Nothing outstanding, nothing used."""
        flags = self.memory.load(self.descriptors + DESCRIPTOR * self.used_index + 14, 2)
        used = bool(flags & AVAIL) == bool(flags & USED) == self.used_wrap
        return bool(self.outstanding) and used

    def reap(self) -> list[tuple[int, int]]:
        """All that is finished, as (token, bytes written)."""
        found: list[tuple[int, int]] = []
        while self.done():
            at = self.descriptors + DESCRIPTOR * self.used_index
            flags = self.memory.load(at + 14, 2)
            # The length means nothing unless something was written (2.8.4).
            written = self.memory.load(at + 8, 4) if flags & WRITE else 0
            for chain in self.settle(self.memory.load(at + 12, 2), written):
                position = self.used_index, self.used_wrap
                self.used_index, self.used_wrap = advance(position, chain.slots, self.size)
                self.free_ids.append(chain.id)
                found.append((chain.token, chain.written or 0))
        return found

    def enable_notifications(self, after: int = 0) -> bool:
        """Ask for notifications (2.8.10). True if something is finished already: look after asking.

        With EVENT_IDX the first ``after`` descriptors to come may go without.
        """
        position = advance((self.used_index, self.used_wrap), after, self.size)
        ask_for_events(self.memory, self.driver_area, self.event_idx, position)
        return self.done()

    def disable_notifications(self) -> None:
        """Ask for none."""
        self.memory.store(self.driver_area + 2, 2, DISABLE)

    def notification_data(self, queue: int) -> int:
        """What a notification carries with NOTIFICATION_DATA (2.9): the queue, next offset and wrap."""
        return queue | self.avail_index << 16 | self.avail_wrap << 31
