"""The device's end of a split virtqueue (virtio 1.4, 2.7).

The driver writes descriptors and the available ring, the device the used ring. Everything the driver wrote
is copied into a local before it is checked, and the copy is what is used.
"""

import sys

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy
from cython.cimports.virtio.memory.atomic import (
    ACQUIRE,
    RELAXED,
    RELEASE,
    SEQ_CST,
    fence,
    load_u16,
    prefetch,
    prefetch_write,
    store_u16,
)
from cython.cimports.virtio.memory.table import GuestMemory, log_write, memory_gone
from cython.cimports.virtio.virtqueue.queue import (
    LONGEST_TABLE,
    RING_ADDRESS,
    RING_ADDRESS_WRAPS,
    RING_HEAD_BEYOND_SIZE,
    RING_INDEX_JUMP,
    RING_INDIRECT_NESTED,
    RING_INDIRECT_NOT_NEGOTIATED,
    RING_INDIRECT_SIZE,
    RING_INDIRECT_WITH_NEXT,
    RING_IOTLB_MISS,
    RING_LOOP,
    RING_MEMORY_GONE,
    RING_NO_MEMORY,
    RING_OK,
    RING_TOO_MANY_OUTSTANDING,
    Chain,
    DeviceQueue,
    bring_chain_nearer,
    bring_nearer,
    chain_append,
    chain_in_turn,
    chain_log,
    chain_new,
    chain_queue_up,
    chain_recycle,
    chain_single,
    chain_that_waited,
    need_event,
    ring_area,
)

from virtio.errors import UsageError
from virtio.spec.features import NOTIFY_ON_EMPTY
from virtio.virtqueue.layout import check_split_size, split_layout
from virtio.virtqueue.state import QueueState

__all__ = ["SplitDeviceQueue"]


class SplitDeviceQueue(DeviceQueue):
    """The device's end of a split virtqueue.

    ``descriptors``, ``driver_area`` and ``device_area`` are guest addresses, ``features`` the negotiated set.
    With ``state`` the queue goes on where another one stopped: the available index is taken from it, the used
    index from the ring itself, which is where it always stands. Raises RingAreaError when the ring cannot be
    there or cannot have this size.
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
    ) -> None:
        check_split_size(size)
        DeviceQueue.__init__(self, memory, size, (descriptors, driver_area, device_area), features)
        self.given = cython.cast(cython.pointer[UsedElement], calloc(size, cython.sizeof(UsedElement)))
        if self.given == cython.NULL:
            raise MemoryError
        self.mask = size - 1
        self.swapped = byte_order != sys.byteorder
        self.notify_on_empty = bool(features >> NOTIFY_ON_EMPTY & 1)
        self.signalled_known = state is None
        if state is not None:
            self.next_avail = self.seen_avail = state.avail_index & 0xFFFF
            used: uint16_t = load_u16(cython.address(self.used[RING_INDEX]), RELAXED)
            self.next_used = self.published = self.signalled = order16(used, self.swapped)

    def __dealloc__(self) -> None:
        free(self.given)

    def attach(self, memory: GuestMemory) -> cython.int:
        """Find the three areas; nothing changes if one of them cannot be used."""
        table, driver, device = self.areas
        sizes = split_layout(self.size, event_idx=self.event_idx)
        descriptors = ring_area(memory, table, sizes.descriptors, 16, False, "descriptor table")
        avail = ring_area(memory, driver, sizes.driver_area, 2, False, "available ring")
        used = ring_area(memory, device, sizes.device_area, 4, True, "used ring")
        self.descriptors = descriptors
        self.avail = cython.cast(cython.pointer[uint16_t], avail)
        self.used = cython.cast(cython.pointer[uint16_t], used)
        return 0

    def state(self) -> QueueState:
        """Where the queue stands. Chains taken and not given back would be lost."""
        return QueueState(avail_index=self.next_avail, used_index=self.next_used)

    def reset(self) -> None:
        """Back to the state of a new queue (virtio 1.4, 2.6.1). UsageError while chains are outstanding."""
        if self.outstanding:
            raise UsageError(f"a queue with {self.outstanding} chains outstanding cannot be reset")
        self.next_avail = self.seen_avail = 0
        self.next_used = self.published = self.signalled = 0
        self.signalled_known = True
        self.fault = 0
        self.missing = False

    # -- taking

    def available(self) -> cython.bint:
        if self.fault != 0:
            return False
        index: uint16_t = load_u16(cython.address(self.avail[RING_INDEX]), RELAXED)
        return order16(index, self.swapped) != self.next_avail

    def refresh(self, limit: cython.int) -> cython.int:
        """How many chains are available, at most `limit`; the driver's index is read when it may matter."""
        ready: cython.int = cython.cast(uint16_t, self.seen_avail - self.next_avail)
        if ready < limit:
            index: uint16_t = load_u16(cython.address(self.avail[RING_INDEX]), ACQUIRE)
            index = order16(index, self.swapped)
            ready = cython.cast(uint16_t, index - self.next_avail)
            if cython.cast(uint32_t, ready) > self.size:
                return self.stop(RING_INDEX_JUMP, index)
            self.seen_avail = index
        return min(ready, limit)

    def take(self, chains: cython.pointer[cython.pointer[Chain]], limit: cython.int) -> cython.int:
        fault: cython.int = RING_OK
        count: cython.int = 0
        if self.fault != 0:
            return self.fault
        self.missing = False
        ready: cython.int = self.refresh(limit)
        if ready <= 0:
            return self.stop(RING_MEMORY_GONE, 0) if memory_gone(self.table) else ready
        self.look_ahead(ready)
        ring: cython.pointer[uint16_t] = self.avail + RING_ENTRIES
        head: uint16_t
        while count < ready:
            head = order16(load_u16(ring + (self.next_avail & self.mask), RELAXED), self.swapped)
            if self.outstanding >= self.size:
                fault = self.stop(RING_TOO_MANY_OUTSTANDING, head)
                break
            chain: cython.pointer[Chain] = chain_new(self)
            if chain == cython.NULL:
                fault = self.stop(RING_NO_MEMORY, 0)
                break
            fault = take_single(self, chain, head)
            if fault == NOT_SINGLE:
                fault = self.walk(chain, head, True) if self.swapped else self.walk(chain, head, False)
            if fault != RING_OK:
                chain_recycle(self, chain)
                break
            admit(self, chain, head)
            chains[count] = chain
            bring_chain_nearer(chain)
            count += 1
        if memory_gone(self.table):
            return self.take_back(chains, count)
        return count if count != 0 else fault

    def look_ahead(self, count: cython.int) -> cython.void:
        """Have the next descriptors, their indirect tables and used elements fetched, all at the same time.

        Another processor touched them last: one after the other, each would be waited for.
        """
        i: cython.int
        for i in range(0, count, 8):  # elements of the used ring in a cache line
            prefetch_write(self.used + RING_ENTRIES + ((self.next_used + i) & self.mask) * USED_WORDS)
        for i in range(count):
            prefetch(self.descriptor_of(i))
        if not self.indirect:
            return
        for i in range(count):
            found = read_descriptor(self.descriptor_of(i), self.swapped)
            if found.flags & DESC_INDIRECT:
                bring_nearer(self.table, found.address)

    def descriptor_of(self, ahead: cython.int) -> cython.p_char:
        """Where the head of the chain after `ahead` others is, or of any, if the driver wrote nonsense."""
        entry: cython.size_t = RING_ENTRIES + ((self.next_avail + ahead) & self.mask)
        head: uint16_t = order16(load_u16(self.avail + entry, RELAXED), self.swapped)
        return self.descriptors + cython.cast(cython.size_t, head & self.mask) * DESC_BYTES

    def take_back(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.int:
        """The ring's memory vanished while it was read: nothing of this batch can be believed."""
        self.put_back(chains, count)
        return self.stop(RING_MEMORY_GONE, 0)

    def put_back(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.void:
        i: cython.int
        for i in range(count):
            chain_recycle(self, chains[i])
        self.outstanding -= count
        self.next_avail -= count
        if self.in_order:
            self.forget_newest()

    def walk(self, chain: cython.pointer[Chain], head: uint16_t, swapped: cython.bint) -> cython.int:
        """Follow a chain from its head. 0 or a fault."""
        index: uint16_t = head
        count: uint32_t = 0
        while True:
            if index >= self.size:
                return self.stop(RING_HEAD_BEYOND_SIZE, index)
            if count == self.size:
                return self.stop(RING_LOOP, head)
            count += 1
            found = read_descriptor(
                self.descriptors + cython.cast(cython.size_t, index) * DESC_BYTES, swapped
            )
            if found.flags & DESC_INDIRECT:
                if not self.indirect:
                    return self.stop(RING_INDIRECT_NOT_NEGOTIATED, index)
                if found.flags & DESC_NEXT:
                    return self.stop(RING_INDIRECT_WITH_NEXT, index)
                chain.slots = count
                return self.walk_indirect(chain, found.address, found.length, count - 1, swapped)
            chain.slots = count
            fault: cython.int = chain_append(
                self, chain, found.address, found.length, found.flags & DESC_WRITE != 0
            )
            if fault != RING_OK or not found.flags & DESC_NEXT:
                return fault
            index = found.next

    def walk_indirect(
        self,
        chain: cython.pointer[Chain],
        address: uint64_t,
        length: uint32_t,
        visited: uint32_t,
        swapped: cython.bint,
    ) -> cython.int:
        """Follow the chain in an indirect table, after `visited` descriptors of the ring. 0 or a fault."""
        index: uint32_t = 0
        limit: uint32_t = max(self.size, LONGEST_TABLE)
        fault: cython.int
        run: uint64_t = 0
        copy = cython.declare(cython.char[DESC_BYTES])
        if length == 0 or length % DESC_BYTES != 0:
            return self.stop(RING_INDIRECT_SIZE, length)
        if address + (length - 1) < address:
            return self.stop(RING_ADDRESS_WRAPS, address)
        place: cython.p_char = self.readable_run(address, length, cython.address(run))
        if place == cython.NULL:
            return self.stop(RING_IOTLB_MISS if self.table.iotlb else RING_ADDRESS, address)
        while True:
            if index >= length // DESC_BYTES:
                return self.stop(RING_HEAD_BEYOND_SIZE, index)
            if visited == limit:
                return self.stop(RING_LOOP, chain.slots)
            visited += 1
            if run == length:
                found = read_descriptor(place + cython.cast(cython.size_t, index) * DESC_BYTES, swapped)
            else:
                fault = self.gather(address + cython.cast(uint64_t, index) * DESC_BYTES, copy, DESC_BYTES)
                if fault != RING_OK:
                    return fault
                found = read_descriptor(copy, swapped)
            if found.flags & DESC_INDIRECT:
                return self.stop(RING_INDIRECT_NESTED, address)
            fault = chain_append(self, chain, found.address, found.length, found.flags & DESC_WRITE != 0)
            if fault != RING_OK:
                return fault
            if not found.flags & DESC_NEXT:
                return RING_OK
            index = found.next

    # -- giving back

    def give_row(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.void:
        i: cython.int
        for i in range(count):
            chain: cython.pointer[Chain] = chains[i]
            chain_log(self, chain)
            if self.in_order:
                chain = chain_in_turn(self, chain)
            while chain != cython.NULL:
                put_used(self, chain)
                chain = chain_that_waited(self)

    def write_given(self) -> cython.void:
        """Write what was noted down, all in a row.

        The ring's lines are the other processor's, and stores leave this one in order: with others in
        between, each line would be waited for by itself.
        """
        first: uint32_t = self.published & self.mask
        count: uint32_t = min(cython.cast(uint16_t, self.next_used - self.published), self.size)
        straight: uint32_t = min(count, self.size - first)
        self.write_elements(first, straight)
        if straight != count:
            self.write_elements(0, count - straight)

    def write_elements(self, first: uint32_t, count: uint32_t) -> cython.void:
        """The same of some that lie side by side."""
        place = cython.cast(
            cython.p_char, self.used + RING_ENTRIES + cython.cast(cython.size_t, first) * USED_WORDS
        )
        length: cython.size_t = count * cython.sizeof(UsedElement)
        memcpy(place, self.given + first, length)
        if self.table.log != cython.NULL:
            log_write(self.table, place, length)

    def publish(self) -> cython.bint:
        if self.next_used == self.published:
            return False
        self.write_given()
        self._store_used(RING_INDEX, self.next_used, RELEASE)
        self.published = self.next_used
        # The index must be visible before we read whether the driver wants to know: it does the reverse.
        fence(SEQ_CST)
        old: uint16_t = self.signalled
        known: cython.bint = self.signalled_known
        self.signalled = self.next_used
        self.signalled_known = True
        if self.notify_on_empty and self.outstanding == 0 and not self.available():
            return True
        if self.event_idx:
            event: uint16_t = load_u16(cython.address(self.avail[RING_ENTRIES + self.size]), RELAXED)
            return not known or need_event(order16(event, self.swapped), self.next_used, old)
        flags: uint16_t = load_u16(cython.address(self.avail[RING_FLAGS]), RELAXED)
        return not (order16(flags, self.swapped) & NO_NOTIFICATION)

    def enable_notifications(self) -> cython.bint:
        if self.event_idx:
            self._store_used(RING_ENTRIES + self.size * USED_WORDS, self.next_avail, RELAXED)
        else:
            self._store_flags(0)
        # The request must be visible before we look whether it came too late.
        fence(SEQ_CST)
        return self.available()

    def disable_notifications(self) -> cython.void:
        # With event indexes nothing is to do: the one already passed asks for nothing more.
        if not self.event_idx:
            self._store_flags(NO_NOTIFICATION)

    # -- memory

    def _store_flags(self, flags: uint16_t) -> cython.void:
        """Tell the driver which notifications we want; the line is not touched if it says so already."""
        if load_u16(cython.address(self.used[RING_FLAGS]), RELAXED) != order16(flags, self.swapped):
            self._store_used(RING_FLAGS, flags, RELAXED)

    def _store_used(self, word: cython.size_t, value: uint16_t, order: cython.int) -> cython.void:
        """Write one word of the used ring."""
        place: cython.pointer[uint16_t] = self.used + word
        if order == RELEASE:
            store_u16(place, order16(value, self.swapped), RELEASE)
        else:
            store_u16(place, order16(value, self.swapped), RELAXED)
        if self.table.log != cython.NULL:
            log_write(self.table, cython.cast(cython.p_char, place), 2)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def take_single(queue: SplitDeviceQueue, chain: cython.pointer[Chain], head: uint16_t) -> cython.int:
    """Take a chain that is one descriptor in one region, as most are. 0, or NOT_SINGLE: walk it."""
    if head >= queue.size:
        return NOT_SINGLE
    found = read_descriptor(queue.descriptors + cython.cast(cython.size_t, head) * DESC_BYTES, queue.swapped)
    if found.flags & (DESC_NEXT | DESC_INDIRECT):
        return NOT_SINGLE
    if not chain_single(queue, chain, found.address, found.length, found.flags & DESC_WRITE != 0):
        return NOT_SINGLE
    chain.slots = 1
    return RING_OK


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def admit(queue: SplitDeviceQueue, chain: cython.pointer[Chain], head: uint16_t) -> cython.void:
    """Count a well-formed chain as taken."""
    chain.id = head
    queue.next_avail += 1
    queue.outstanding += 1
    if queue.in_order:
        chain_queue_up(queue, chain)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def put_used(queue: SplitDeviceQueue, chain: cython.pointer[Chain]) -> cython.void:
    """Note down the used element behind those already there; `publish` writes it."""
    element: cython.pointer[UsedElement] = queue.given + (queue.next_used & queue.mask)
    element.id = order32(chain.id, queue.swapped)
    element.length = order32(chain.written, queue.swapped)
    queue.next_used += 1
    queue.outstanding -= 1
    chain_recycle(queue, chain)
