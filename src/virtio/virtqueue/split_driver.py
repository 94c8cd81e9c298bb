"""The driver's end of a split virtqueue (virtio 1.4, 2.7).

What the device must not change is remembered here rather than read back from the ring: which descriptors
are free, which chain has which token, how much each chain can hold.
"""

import sys

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
    store_u16,
)
from cython.cimports.virtio.memory.table import GuestMemory, memory_gone
from cython.cimports.virtio.virtqueue.queue import (
    LONGEST_CHAIN,
    RING_MEMORY_GONE,
    RING_USED_ID,
    RING_USED_JUMP,
    RING_USED_LENGTH,
    Buffer,
    Completion,
    DriverQueue,
    need_event,
    ring_area,
)
from cython.cimports.virtio.virtqueue.split import (
    DESC_BYTES,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    NO_NOTIFICATION,
    RING_ENTRIES,
    RING_FLAGS,
    RING_INDEX,
    USED_WORDS,
    Descriptor,
    order16,
    order32,
    order64,
)

from virtio.errors import UsageError
from virtio.spec.features import NOTIFICATION_DATA
from virtio.virtqueue.layout import check_split_size, split_layout
from virtio.virtqueue.state import QueueState

__all__ = ["SplitDriverQueue"]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def store_changed(place: cython.pointer[uint16_t], value: uint16_t) -> cython.void:
    """Store what the device reads; if it is there already, the cache line stays with the device."""
    if load_u16(place, RELAXED) != value:
        store_u16(place, value, RELAXED)


class SplitDriverQueue(DriverQueue):
    """The driver's end of a split virtqueue.

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
        byte_order: str = "little",
        indirect_tables: int = 0,
        indirect_entries: int = 32,
    ) -> None:
        check_split_size(size)
        if not 0 < indirect_entries <= size and indirect_tables:
            raise UsageError(f"indirect tables of {indirect_entries} entries on a queue of {size}")
        DriverQueue.__init__(self, memory, size, (descriptors, driver_area, device_area), features)
        self.mask = size - 1
        self.swapped = byte_order != sys.byteorder
        self.with_data = bool(features >> NOTIFICATION_DATA & 1)
        self.table_entries = indirect_entries
        self.find_areas(indirect_tables)
        self.allocate()
        if state is None:
            sizes = split_layout(size, event_idx=self.event_idx)
            memory.write(driver_area, bytes(sizes.driver_area))
            memory.write(device_area, bytes(sizes.device_area))
        else:
            self.next_avail = self.published = state.avail_index & 0xFFFF
            self.next_used = self.seen_used = state.used_index & 0xFFFF

    def find_areas(self, indirect_tables: uint64_t) -> cython.int:
        """Find the areas in this process, the indirect tables among them."""
        table, driver, device = self.areas
        memory: GuestMemory = self.memory
        sizes = split_layout(self.size, event_idx=self.event_idx)
        self.descriptors = ring_area(memory, table, sizes.descriptors, 16, True, "descriptor table")
        avail = ring_area(memory, driver, sizes.driver_area, 2, True, "available ring")
        used = ring_area(memory, device, sizes.device_area, 4, False, "used ring")
        self.avail = cython.cast(cython.pointer[uint16_t], avail)
        self.used = cython.cast(cython.pointer[uint16_t], used)
        if self.indirect and indirect_tables:
            length = self.size * self.table_entries * DESC_BYTES
            self.tables = ring_area(memory, indirect_tables, length, 16, True, "indirect tables")
            self.tables_address = indirect_tables
        return 0

    def allocate(self) -> cython.int:
        """Make our own records, with every descriptor free and followed by the next."""
        i: uint32_t
        self.slots = cython.cast(cython.pointer[Slot], calloc(self.size, cython.sizeof(Slot)))
        self.links = cython.cast(cython.pointer[uint16_t], calloc(self.size, cython.sizeof(uint16_t)))
        self.order = cython.cast(cython.pointer[uint16_t], calloc(self.size, cython.sizeof(uint16_t)))
        if self.slots == cython.NULL or self.links == cython.NULL or self.order == cython.NULL:
            raise MemoryError
        for i in range(self.size):
            self.links[i] = (i + 1) & self.mask
        return 0

    def __dealloc__(self) -> None:
        free(self.slots)
        free(self.links)
        free(self.order)

    def state(self) -> QueueState:
        """Where the queue stands: next index to offer and next to reap."""
        return QueueState(avail_index=self.next_avail, used_index=self.next_used)

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
        head: uint16_t = self.free_head
        slot: cython.pointer[Slot] = cython.address(self.slots[head])
        slot.token = token
        slot.writable_length = written
        slot.count = needed
        if one:
            self.write_table(buffers, readable, count, head)
        else:
            self.write_chain(buffers, readable, count, head)
        place: uint16_t = self.next_avail & self.mask
        self.order[place] = head
        store_changed(cython.address(self.avail[RING_ENTRIES + place]), order16(head, self.swapped))
        self.next_avail += 1
        self.free_descriptors -= needed
        self.outstanding += 1
        return 0

    def write_chain(
        self,
        buffers: cython.pointer[cython.const[Buffer]],
        readable: cython.int,
        count: cython.int,
        head: uint16_t,
    ) -> cython.void:
        """Write a chain into free descriptors from `head` on; they stay linked as they were when free."""
        i: cython.int
        index: uint16_t = head
        for i in range(count):
            flags: uint16_t = DESC_WRITE if i >= readable else 0
            following: uint16_t = 0
            if i + 1 < count:
                flags |= DESC_NEXT
                following = self.links[index]
            place: cython.p_char = self.descriptors + cython.cast(cython.size_t, index) * DESC_BYTES
            self.put_descriptor(place, buffers[i].address, buffers[i].length, flags, following)
            self.slots[head].last = index
            index = self.links[index]
        self.free_head = index

    def write_table(
        self,
        buffers: cython.pointer[cython.const[Buffer]],
        readable: cython.int,
        count: cython.int,
        head: uint16_t,
    ) -> cython.void:
        """Write a chain into the indirect table that belongs to `head`, and `head` to refer to it."""
        i: cython.int
        offset: cython.size_t = cython.cast(cython.size_t, head) * self.table_entries * DESC_BYTES
        for i in range(count):
            flags: uint16_t = DESC_WRITE if i >= readable else 0
            following: uint16_t = 0
            if i + 1 < count:
                flags |= DESC_NEXT
                following = i + 1
            place: cython.p_char = self.tables + offset + cython.cast(cython.size_t, i) * DESC_BYTES
            self.put_descriptor(place, buffers[i].address, buffers[i].length, flags, following)
        place = self.descriptors + cython.cast(cython.size_t, head) * DESC_BYTES
        self.put_descriptor(place, self.tables_address + offset, count * DESC_BYTES, DESC_INDIRECT, 0)
        self.slots[head].last = head
        self.free_head = self.links[head]

    def put_descriptor(
        self, place: cython.p_char, address: uint64_t, length: uint32_t, flags: uint16_t, following: uint16_t
    ) -> cython.void:
        """Write one descriptor; the device does not look before the available index passes its chain.

        A driver that uses its buffers in turn finds the same one there as a rule, and then the cache line
        stays with the device.
        """
        made = cython.cast(cython.pointer[Descriptor], place)
        address = order64(address, self.swapped)
        length = order32(length, self.swapped)
        flags = order16(flags, self.swapped)
        following = order16(following, self.swapped)
        if (
            made.address == address
            and made.length == length
            and made.flags == flags
            and made.next == following
        ):
            return
        made.address = address
        made.length = length
        made.flags = flags
        made.next = following

    def publish(self) -> cython.bint:
        if self.next_avail == self.published:
            return False
        old: uint16_t = self.published
        index: cython.pointer[uint16_t] = cython.address(self.avail[RING_INDEX])
        store_u16(index, order16(self.next_avail, self.swapped), RELEASE)
        self.published = self.next_avail
        # The index must be visible before we read whether the device wants to know: it does the reverse.
        fence(SEQ_CST)
        if self.event_idx:
            event: uint16_t = load_u16(
                cython.address(self.used[RING_ENTRIES + self.size * USED_WORDS]), RELAXED
            )
            return need_event(order16(event, self.swapped), self.next_avail, old)
        flags: uint16_t = load_u16(cython.address(self.used[RING_FLAGS]), RELAXED)
        return not (order16(flags, self.swapped) & NO_NOTIFICATION)

    def notification_data(self, index: uint16_t) -> uint32_t:
        if not self.with_data:
            return index
        return cython.cast(uint32_t, self.published) << 16 | index

    # -- reaping

    def finished(self) -> cython.bint:
        if self.fault != 0:
            return False
        index: uint16_t = load_u16(cython.address(self.used[RING_INDEX]), RELAXED)
        return order16(index, self.swapped) != self.next_used

    def refresh(self, limit: cython.int) -> cython.int:
        """How many used elements wait, whatever `limit`; the device's index is read when it may matter."""
        ready: cython.int = cython.cast(uint16_t, self.seen_used - self.next_used)
        if ready < limit:
            index: uint16_t = load_u16(cython.address(self.used[RING_INDEX]), ACQUIRE)
            index = order16(index, self.swapped)
            ready = cython.cast(uint16_t, index - self.next_used)
            # Chains not yet published cannot have been used either.
            hidden: uint32_t = cython.cast(uint16_t, self.next_avail - self.published)
            if cython.cast(uint32_t, ready) > self.outstanding - hidden:
                return self.stop(RING_USED_JUMP, index)
            self.seen_used = index
        return ready

    def reap(self, completions: cython.pointer[Completion], limit: cython.int) -> cython.int:
        count: cython.int = 0
        written: uint32_t = 0
        if self.fault != 0:
            return self.fault
        ready: cython.int = self.refresh(limit)
        while count < limit and count < ready:
            head: cython.int = self.next_head(ready - count, cython.address(written))
            if head < 0:
                break
            slot: cython.pointer[Slot] = cython.address(self.slots[head])
            if written > slot.writable_length:
                self.stop(RING_USED_LENGTH, written)
                break
            completions[count].token = slot.token
            completions[count].written = written
            self.release(head)
            count += 1
        if memory_gone(cython.address(self.memory.table)):
            return self.stop(RING_MEMORY_GONE, 0)
        return count if count != 0 else self.fault

    def next_head(self, ready: cython.int, written: cython.pointer[uint32_t]) -> cython.int:
        """The chain that finished next, of `ready`, and how much was written to it. A head or a fault."""
        if self.batch != 0:
            return self.next_in_order(0, 0, ready, written)
        place: cython.size_t = (
            RING_ENTRIES + cython.cast(cython.size_t, self.next_used & self.mask) * USED_WORDS
        )
        element = cython.cast(cython.pointer[cython.const[uint32_t]], self.used + place)
        identifier: uint32_t = order32(load_u32(element, RELAXED), self.swapped)
        length: uint32_t = order32(load_u32(element + 1, RELAXED), self.swapped)
        if self.in_order:
            return self.next_in_order(identifier, length, ready, written)
        if identifier >= self.size or self.slots[identifier].count == 0:
            return self.stop(RING_USED_ID, identifier)
        written[0] = length
        return identifier

    def next_in_order(
        self, identifier: uint32_t, length: uint32_t, ready: cython.int, written: cython.pointer[uint32_t]
    ) -> cython.int:
        """The oldest chain, when the element that ends a batch named `identifier` (virtio 1.4, 2.7.9).

        Only the last chain of a batch has its length told; the others count as filled entirely.
        """
        if self.batch == 0:
            while self.batch < ready:
                self.batch += 1
                if self.order[(self.next_used + self.batch - 1) & self.mask] == identifier:
                    break
            else:
                self.batch = 0
                return self.stop(RING_USED_ID, identifier)
            self.batch_written = length
        head: uint16_t = self.order[self.next_used & self.mask]
        self.batch -= 1
        if self.batch == 0:
            written[0] = self.batch_written
        else:
            whole: uint64_t = self.slots[head].writable_length
            written[0] = cython.cast(uint32_t, whole if whole < LONGEST_CHAIN else whole - 1)
        return head

    def release(self, head: uint16_t) -> cython.void:
        """Count a finished chain's descriptors as free again."""
        slot: cython.pointer[Slot] = cython.address(self.slots[head])
        if not self.in_order:
            self.links[slot.last] = self.free_head
            self.free_head = head
        self.free_descriptors += slot.count
        slot.count = 0
        self.next_used += 1
        self.outstanding -= 1

    def enable_notifications(self) -> cython.bint:
        if self.event_idx:
            event: cython.pointer[uint16_t] = cython.address(self.avail[RING_ENTRIES + self.size])
            store_u16(event, order16(self.next_used, self.swapped), RELAXED)
        else:
            self._store_flags(0)
        # The request must be visible before we look whether it came too late.
        fence(SEQ_CST)
        return self.finished()

    def disable_notifications(self) -> cython.void:
        # With event indexes nothing is to do: the one already passed asks for nothing more.
        if not self.event_idx:
            self._store_flags(NO_NOTIFICATION)

    def _store_flags(self, flags: uint16_t) -> cython.void:
        """Tell the device which notifications we want."""
        store_changed(cython.address(self.avail[RING_FLAGS]), order16(flags, self.swapped))
