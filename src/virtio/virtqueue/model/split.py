"""The split virtqueue, by the book (virtio 1.4, 2.7).

Three areas::

    descriptor table    size x { u64 addr, u32 len, u16 flags, u16 next }           written by the driver
    available ring      u16 flags, u16 idx, size x u16 head, u16 used_event         written by the driver
    used ring           u16 flags, u16 idx, size x { u32 id, u32 len }, u16 avail_event     by the device

Both `idx` count up freely, modulo 2**16; an entry's place is its index modulo the size.
"""

from __future__ import annotations

from .chain import DESCRIPTOR, INDIRECT, LONGEST_TABLE, NEXT, WRITE, Chain, Malformed
from .ends import Buffers, DeviceEnd, DriverEnd

__all__ = ["SplitDevice", "SplitDriver"]

# Offsets in the available and in the used ring.
FLAGS = 0
INDEX = 2
RING = 4


def distance(later: int, earlier: int) -> int:
    """How many steps a free-running 16-bit index took."""
    return (later - earlier) % (1 << 16)


class SplitDevice(DeviceEnd):
    """The device's end of a split virtqueue."""

    def available(self) -> bool:
        """Has the driver made anything available that was not taken?"""
        return self.memory.load(self.driver_area + INDEX, 2) != self.avail_index

    def take(self) -> Chain | None:
        """The next available chain, or None (2.7.6). Reads the index before the entry: an acquire."""
        index = self.memory.load(self.driver_area + INDEX, 2)
        waiting = distance(index, self.avail_index)
        if waiting == 0:
            return None
        # A driver cannot have more chains in the ring than the ring has descriptors (2.7.13).
        if waiting > self.size:
            raise Malformed("INDEX_JUMP", index)
        if len(self.outstanding) >= self.size:
            raise Malformed("TOO_MANY_OUTSTANDING", index)
        head = self.memory.load(self.driver_area + RING + 2 * (self.avail_index % self.size), 2)
        chain = self.walk(head)
        self.avail_index = (self.avail_index + 1) % (1 << 16)
        self.outstanding.append(chain)
        return chain

    def walk(self, head: int) -> Chain:
        """Follow a chain through the descriptor table and perhaps one indirect table (2.7.5)."""
        chain = Chain(id=head)
        table, entries, index = self.descriptors, self.size, head
        nested, limit = False, self.size
        while True:
            if index >= entries:
                raise Malformed("HEAD_BEYOND_SIZE", index)
            # No chain is longer than the queue (2.7.5.3.1), so one that is has a loop; but see LONGEST_TABLE.
            if len(chain.readable) + len(chain.writable) >= limit:
                raise Malformed("LOOP", head)
            address, length, flags, follower = self.descriptor(table + DESCRIPTOR * index)
            chain.slots += not nested
            if flags & INDIRECT:
                self.check_indirect(flags, address, length, nested)
                # WRITE is ignored here (2.7.5.3.2). The table's first entry is the chain's next element.
                table, entries, index, nested = address, length // DESCRIPTOR, 0, True
                limit = max(limit, LONGEST_TABLE)
                continue
            chain.append(address, length, bool(flags & WRITE))
            self.memory.check(address, length)
            if not flags & NEXT:
                return chain
            index = follower

    def check_indirect(self, flags: int, address: int, length: int, nested: bool) -> None:
        """What a driver must not do with INDIRECT (2.7.5.3.1)."""
        if not self.indirect:
            raise Malformed("INDIRECT_NOT_NEGOTIATED")
        if nested:
            raise Malformed("INDIRECT_NESTED")
        if flags & NEXT:
            raise Malformed("INDIRECT_WITH_NEXT")
        if length == 0 or length % DESCRIPTOR:
            raise Malformed("INDIRECT_SIZE", length)
        if address + length > 1 << 64:
            raise Malformed("ADDRESS_WRAPS", address)

    def descriptor(self, address: int) -> tuple[int, int, int, int]:
        """Its address, length, flags and next."""
        load = self.memory.load
        return load(address, 8), load(address + 8, 4), load(address + 12, 2), load(address + 14, 2)

    def publish(self) -> bool:
        """Write used elements for what is finished, then the index. True if the driver must be notified."""
        before = self.used_index
        for batch in self.batches():
            element = self.device_area + RING + 8 * (self.used_index % self.size)
            self.memory.store(element, 4, batch[-1].id)
            self.memory.store(element + 4, 4, batch[-1].written or 0)
            self.used_index = (self.used_index + len(batch)) % (1 << 16)
        # Elements are written before the index (2.7.8.2: a release), the index before looking whether to
        # notify (a full barrier).
        self.memory.store(self.device_area + INDEX, 2, self.used_index)
        return self.used_index != before and self.wants_notification(before)

    def wants_notification(self, before: int) -> bool:
        """Does the driver want to hear of the used entries since ``before`` (2.7.7.2)?"""
        if not self.event_idx:
            return self.memory.load(self.driver_area + FLAGS, 2) & 1 == 0
        used_event = self.memory.load(self.driver_area + RING + 2 * self.size, 2)
        return distance(used_event, before) < distance(self.used_index, before)

    def enable_notifications(self, after: int = 0) -> bool:
        """Ask for notifications (2.7.10). True if something is available already: look after asking.

        With EVENT_IDX the first ``after`` chains to come may go without.
        """
        if self.event_idx:
            event = (self.avail_index + after) % (1 << 16)
            self.memory.store(self.device_area + RING + 8 * self.size, 2, event)
        else:
            self.memory.store(self.device_area + FLAGS, 2, 0)
        return self.available()

    def disable_notifications(self) -> None:
        """Ask for none. With EVENT_IDX the flags stay 0, and an event index left behind says as much."""
        if not self.event_idx:
            self.memory.store(self.device_area + FLAGS, 2, 1)


class SplitDriver(DriverEnd):
    """The driver's end of a split virtqueue."""

    def begin(self) -> None:
        """Nothing is added, all descriptors are free."""
        # Taken from the front, freed to the back: with IN_ORDER that is ring order, from 0 (2.7.5).
        self.free = list(range(self.size))
        self.occupied: dict[int, list[int]] = {}
        self.published = self.avail_index

    def add(self, readable: Buffers, writable: Buffers, token: int, indirect: bool = False) -> bool:
        """Offer a chain; False when there is no room. The device sees it after `publish` (2.7.13.1)."""
        if not self.fits(readable, writable, indirect):
            return False
        count = len(readable) + len(writable)
        slots = [self.free.pop(0) for _ in range(1 if indirect else count)]
        head = slots[0]
        if indirect:
            table, at = self.table_of(head), self.descriptors + DESCRIPTOR * head
            self.write_chain(table, list(range(count)), readable, writable)
            self.write_descriptor(at, table, DESCRIPTOR * count, INDIRECT, 0)
        else:
            self.write_chain(self.descriptors, slots, readable, writable)
        self.memory.store(self.driver_area + RING + 2 * (self.avail_index % self.size), 2, head)
        self.avail_index = (self.avail_index + 1) % (1 << 16)
        self.occupied[head] = slots
        self.outstanding.append(Chain(head, len(slots), list(readable), list(writable), token))
        return True

    def write_chain(self, table: int, places: list[int], readable: Buffers, writable: Buffers) -> None:
        """One descriptor for each buffer, linked by `next`."""
        buffers = [(*buffer, 0) for buffer in readable] + [(*buffer, WRITE) for buffer in writable]
        for at, (address, length, flags) in enumerate(buffers):
            follower = 0
            if at + 1 < len(buffers):
                flags, follower = flags | NEXT, places[at + 1]
            self.write_descriptor(table + DESCRIPTOR * places[at], address, length, flags, follower)

    def write_descriptor(self, at: int, address: int, length: int, flags: int, follower: int) -> None:
        """struct virtq_desc."""
        self.memory.store(at, 8, address)
        self.memory.store(at + 8, 4, length)
        self.memory.store(at + 12, 2, flags)
        self.memory.store(at + 14, 2, follower)

    def publish(self) -> bool:
        """Expose what was added by moving the index (2.7.13.3). True if the device must be notified."""
        before, self.published = self.published, self.avail_index
        # A release before this store; a full barrier after it, before looking whether to notify.
        self.memory.store(self.driver_area + INDEX, 2, self.avail_index)
        if self.avail_index == before:
            return False
        if not self.event_idx:
            return self.memory.load(self.device_area + FLAGS, 2) & 1 == 0
        avail_event = self.memory.load(self.device_area + RING + 8 * self.size, 2)
        return distance(avail_event, before) < distance(self.avail_index, before)

    def done(self) -> bool:
        """Has the device finished anything that was not reaped?"""
        return self.memory.load(self.device_area + INDEX, 2) != self.used_index

    def reap(self) -> list[tuple[int, int]]:
        """All that is finished, as (token, bytes written)."""
        found: list[tuple[int, int]] = []
        index = self.memory.load(self.device_area + INDEX, 2)
        if distance(index, self.used_index) > len(self.outstanding):
            raise Malformed("USED_JUMP", index)
        while self.used_index != index:
            element = self.device_area + RING + 8 * (self.used_index % self.size)
            settled = self.settle(self.memory.load(element, 4), self.memory.load(element + 4, 4))
            if len(settled) > distance(index, self.used_index):
                raise Malformed("USED_JUMP", index)
            self.used_index = (self.used_index + len(settled)) % (1 << 16)
            for chain in settled:
                self.free += self.occupied.pop(chain.id)
                found.append((chain.token, chain.written or 0))
        return found

    def enable_notifications(self, after: int = 0) -> bool:
        """Ask for notifications (2.7.7). True if something is finished already: look after asking.

        With EVENT_IDX the first ``after`` chains to come may go without.
        """
        if self.event_idx:
            event = (self.used_index + after) % (1 << 16)
            self.memory.store(self.driver_area + RING + 2 * self.size, 2, event)
        else:
            self.memory.store(self.driver_area + FLAGS, 2, 0)
        return self.done()

    def disable_notifications(self) -> None:
        """Ask for none. With EVENT_IDX the flags stay 0, and an event index left behind says as much."""
        if not self.event_idx:
            self.memory.store(self.driver_area + FLAGS, 2, 1)

    def notification_data(self, queue: int) -> int:
        """What a notification carries with NOTIFICATION_DATA (2.9): the queue, and the next index."""
        return queue | self.avail_index << 16
