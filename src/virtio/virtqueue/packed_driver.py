"""The driver's end of a packed virtqueue (virtio 1.4, 2.8). Twin of `split_driver`."""

import cython
from cython.cimports.libc.errno import EINVAL, ENOSPC
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.virtio.memory.atomic import (
    ACQUIRE,
    RELAXED,
    RELEASE,
    SEQ_CST,
    fence,
    load_u16,
    load_u32,
    store_u32,
    store_u64,
)
from cython.cimports.virtio.memory.table import GuestMemory, memory_gone
from cython.cimports.virtio.virtqueue.packed import (
    DESC_BYTES,
    DESC_INDIRECT,
    DESC_MARKS,
    DESC_NEXT,
    DESC_WRITE,
    EVENTS_DISABLE,
    IN_LINE,
    Descriptor,
    Position,
    advance,
    avail_marks,
    before,
    event_due,
    event_word,
    half_of,
    position_of,
    second_half,
    used_marks,
)
from cython.cimports.virtio.virtqueue.queue import (
    LONGEST_CHAIN,
    RING_MEMORY_GONE,
    RING_OK,
    RING_USED_ID,
    RING_USED_LENGTH,
    Buffer,
    Completion,
    DriverQueue,
    ring_area,
)

from virtio.errors import UsageError
from virtio.virtqueue.layout import packed_layout
from virtio.virtqueue.state import QueueState

__all__ = ["PackedDriverQueue"]

_NOTIFICATION_DATA = 38


class PackedDriverQueue(DriverQueue):
    """The driver's end of a packed virtqueue.

    ``descriptors``, ``driver_area`` and ``device_area`` are addresses as the device will see them, all in
    ``memory``. With INDIRECT_DESC and ``indirect_tables``, the address of ``size * indirect_entries * 16``
    bytes, chains of two to ``indirect_entries`` buffers take one descriptor of the ring each. A queue without
    ``state`` begins with an empty ring, which it writes; with one it goes on where no chain was outstanding.
    Raises RingAreaError when the ring cannot be there or cannot have this size.
    """

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        descriptors: int,
        driver_area: int,
        device_area: int,
        *,
        features: int = 0,
        state: QueueState | None = None,
        indirect_tables: int = 0,
        indirect_entries: int = 32,
    ) -> None:
        sizes = packed_layout(size)
        if not 0 < indirect_entries <= size and indirect_tables:
            raise UsageError(f"indirect tables of {indirect_entries} entries on a queue of {size}")
        DriverQueue.__init__(self, memory, size, (descriptors, driver_area, device_area), features)
        self.with_data = bool(features >> _NOTIFICATION_DATA & 1)
        self.table_entries = indirect_entries
        self.find_areas(indirect_tables)
        self.allocate()
        if state is None:
            memory.write(descriptors, bytes(sizes.descriptors))
            memory.write(driver_area, bytes(sizes.driver_area))
            memory.write(device_area, bytes(sizes.device_area))
        state = state or QueueState()
        self.avail = position_of(state.avail_index, state.avail_wrap, size)
        self.used = position_of(state.used_index, state.used_wrap, size)

    def find_areas(self, indirect_tables: uint64_t) -> cython.int:
        """Find the areas in this process, the indirect tables among them."""
        descriptors, driver, device = self.areas
        memory: GuestMemory = self.memory
        sizes = packed_layout(self.size)
        ring = ring_area(memory, descriptors, sizes.descriptors, 16, True, "descriptor ring")
        driver_events = ring_area(memory, driver, sizes.driver_area, 4, True, "driver event area")
        device_events = ring_area(memory, device, sizes.device_area, 4, False, "device event area")
        self.ring = cython.cast(cython.pointer[Descriptor], ring)
        self.driver_events = cython.cast(cython.pointer[uint32_t], driver_events)
        self.device_events = cython.cast(cython.pointer[uint32_t], device_events)
        if self.indirect and indirect_tables:
            length = self.size * self.table_entries * DESC_BYTES
            tables = ring_area(memory, indirect_tables, length, 16, True, "indirect tables")
            self.tables = cython.cast(cython.pointer[Descriptor], tables)
            self.tables_address = indirect_tables
        return 0

    def allocate(self) -> cython.int:
        """Make our own records, with every buffer id free and followed by the next."""
        i: uint32_t
        self.slots = cython.cast(cython.pointer[Slot], calloc(self.size, cython.sizeof(Slot)))
        self.made = cython.cast(cython.pointer[Made], calloc(self.size, cython.sizeof(Made)))
        if self.slots == cython.NULL or self.made == cython.NULL:
            raise MemoryError
        for i in range(self.size):
            self.slots[i].next_free = (i + 1) % self.size
        return 0

    def __dealloc__(self) -> None:
        free(self.slots)
        free(self.made)

    def state(self) -> QueueState:
        """Where the queue stands: the next descriptor to offer and the next to reap."""
        return QueueState(self.avail.index, self.used.index, bool(self.avail.wrap), bool(self.used.wrap))

    # -- offering

    def add(
        self,
        buffers: cython.pointer[cython.const[Buffer]],
        readable: cython.int,
        writable: cython.int,
        token: uint64_t,
    ) -> cython.int:
        i: cython.int
        total: uint64_t = 0
        written: uint64_t = 0
        count: cython.int = readable + writable
        if readable < 0 or writable < 0 or count <= 0 or cython.cast(uint32_t, count) > self.size:
            return -EINVAL
        for i in range(count):
            if buffers[i].length == 0:
                return -EINVAL
            total += buffers[i].length
            if i >= readable:
                written += buffers[i].length
        if total > LONGEST_CHAIN:
            return -EINVAL
        one: cython.bint = (
            self.tables != cython.NULL and count > 1 and cython.cast(uint32_t, count) <= self.table_entries
        )
        needed: uint32_t = 1 if one else count
        if self.free_descriptors < needed:
            return -ENOSPC
        id: uint32_t = self.free_id
        slot: cython.pointer[Slot] = cython.address(self.slots[id])
        self.free_id = slot.next_free
        slot.token = token
        slot.writable_length = written
        slot.descriptors = needed
        if one:
            self.write_table(buffers, readable, count, id)
        else:
            self.write_list(buffers, readable, count, id)
        self.free_descriptors -= needed
        self.outstanding += 1
        return 0

    def write_list(
        self,
        buffers: cython.pointer[cython.const[Buffer]],
        readable: cython.int,
        count: cython.int,
        id: uint32_t,
    ) -> cython.void:
        """Write a list of descriptors into the ring. Their id counts in the last, and does no harm before."""
        i: cython.int
        for i in range(count):
            flags: uint16_t = DESC_WRITE if i >= readable else 0
            if i + 1 < count:
                flags |= DESC_NEXT
            self.put_descriptor(buffers[i].address, buffers[i].length, id, flags)

    def write_table(
        self,
        buffers: cython.pointer[cython.const[Buffer]],
        readable: cython.int,
        count: cython.int,
        id: uint32_t,
    ) -> cython.void:
        """Write the indirect table that belongs to `id`, and a descriptor that refers to it (2.8.7)."""
        i: cython.int
        offset: uint64_t = cython.cast(uint64_t, id) * self.table_entries
        for i in range(count):
            entry: cython.pointer[Descriptor] = cython.address(self.tables[offset + i])
            entry.address = buffers[i].address
            entry.length = buffers[i].length
            entry.id = 0
            entry.flags = DESC_WRITE if i >= readable else 0
        self.put_descriptor(self.tables_address + offset * DESC_BYTES, count * DESC_BYTES, id, DESC_INDIRECT)

    def put_descriptor(
        self, address: uint64_t, length: uint32_t, id: uint32_t, flags: uint16_t
    ) -> cython.void:
        """Note down the next descriptor; `publish` writes it."""
        made: cython.pointer[Made] = self.made + self.steps
        flags |= avail_marks(self.avail.wrap)
        made.address = address
        made.half = second_half(length, cython.cast(uint16_t, id), flags)
        self.steps += 1
        advance(cython.address(self.avail), 1, self.size)

    def write_made(self, first: Position, steps: uint32_t) -> cython.void:
        """Write what was noted down, in a row, the first cache line last and backwards.

        The device looks at one descriptor only, the next to be available (2.8.2), so it sees nothing of a
        batch before that one's flags, and then all of it.
        """
        lead: uint32_t = min(steps, IN_LINE - first.index % IN_LINE, self.size - first.index)
        step: uint32_t
        for step in range(lead, steps):
            self.write_descriptor(first, step)
        while lead > 0:
            lead -= 1
            self.write_descriptor(first, lead)

    def write_descriptor(self, first: Position, step: uint32_t) -> cython.void:
        """One of them, behind all that was written before."""
        made: cython.pointer[Made] = self.made + step
        advance(cython.address(first), step, self.size)
        descriptor: cython.pointer[Descriptor] = cython.address(self.ring[first.index])
        store_u64(cython.address(descriptor.address), made.address, RELAXED)
        store_u64(half_of(descriptor), made.half, RELEASE)

    def publish(self) -> cython.bint:
        steps: uint32_t = self.steps
        if steps == 0:
            return False
        self.steps = 0
        first: Position = before(cython.address(self.avail), steps, self.size)
        self.write_made(first, steps)
        # The descriptors must be seen before it is asked whether to notify (2.8.21.3.1).
        fence(SEQ_CST)
        events: uint32_t = load_u32(self.device_events, RELAXED)
        return event_due(events, self.event_idx, first, steps, self.size)

    def notification_data(self, index: uint16_t) -> uint32_t:
        if not self.with_data:
            return index
        place: Position = before(cython.address(self.avail), self.steps, self.size)
        return place.wrap << 31 | place.index << 16 | index

    # -- reaping

    def is_used(self, flags: uint16_t) -> cython.bint:
        """Is that a used descriptor's flags, where the next used one is due?

        Only if something is out there: what the ring holds elsewhere is of no meaning.
        """
        out: uint32_t = self.size - self.free_descriptors - self.steps
        return out != 0 and (flags & DESC_MARKS) == used_marks(self.used.wrap)

    def finished(self) -> cython.bint:
        if self.fault != RING_OK:
            return False
        flags: uint16_t = load_u16(cython.address(self.ring[self.used.index].flags), ACQUIRE)
        return self.in_batch or self.is_used(flags)

    def reap(self, completions: cython.pointer[Completion], limit: cython.int) -> cython.int:
        count: cython.int = 0
        while self.fault == RING_OK and count < limit:
            if not self.in_batch:
                # The flags first: the rest of the descriptor was written before them.
                flags: uint16_t = load_u16(cython.address(self.ring[self.used.index].flags), ACQUIRE)
                if not self.is_used(flags) or self.read_used(flags) != RING_OK:
                    break
            self.finish(cython.address(completions[count]))
            count += 1
        if memory_gone(cython.address(self.memory.table)):
            return self.stop(RING_MEMORY_GONE, 0)
        return count if count != 0 else self.fault

    def read_used(self, flags: uint16_t) -> cython.int:
        """Read a used descriptor. 0 or what `stop` made of it.

        With IN_ORDER it finishes all chains up to the one it names (2.8.8).
        """
        descriptor: cython.pointer[Descriptor] = cython.address(self.ring[self.used.index])
        id: uint16_t = load_u16(cython.address(descriptor.id), RELAXED)
        written: uint32_t = 0
        # Without WRITE the length is reserved (2.8.4).
        if flags & DESC_WRITE:
            written = load_u32(cython.address(descriptor.length), RELAXED)
        if id >= self.size or self.slots[id].descriptors == 0:
            return self.stop(RING_USED_ID, id)
        if written > self.slots[id].writable_length:
            return self.stop(RING_USED_LENGTH, written)
        self.batch_last = id
        self.batch_written = written
        self.in_batch = True
        return RING_OK

    def finish(self, completion: cython.pointer[Completion]) -> cython.void:
        """Take the next chain of a batch off the books.

        Those before its last one are taken to have been used completely (2.8.8). With IN_ORDER ids are handed
        out and freed in turn, so that the oldest chain has the id after the one freed last.
        """
        id: uint32_t = self.batch_last
        if self.in_order:
            id = self.oldest_id
            self.oldest_id = self.slots[id].next_free
        slot: cython.pointer[Slot] = cython.address(self.slots[id])
        self.in_batch = id != self.batch_last
        completion.token = slot.token
        completion.written = self.batch_written
        if self.in_batch:
            full: uint64_t = min(slot.writable_length, LONGEST_CHAIN - 1)
            completion.written = cython.cast(uint32_t, full)
        advance(cython.address(self.used), slot.descriptors, self.size)
        self.free_descriptors += slot.descriptors
        self.outstanding -= 1
        slot.descriptors = 0
        if not self.in_order:
            slot.next_free = self.free_id
            self.free_id = id

    def enable_notifications(self) -> cython.bint:
        store_u32(self.driver_events, event_word(self.used, self.event_idx), RELEASE)
        # Ask first, then look once more: what comes after this look is notified.
        fence(SEQ_CST)
        return self.finished()

    def disable_notifications(self) -> cython.void:
        if load_u32(self.driver_events, RELAXED) != EVENTS_DISABLE << 16:
            store_u32(self.driver_events, EVENTS_DISABLE << 16, RELEASE)
