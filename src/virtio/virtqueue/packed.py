"""The device's end of a packed virtqueue (virtio 1.4, 2.8). Twin of `split`.

Both sides write one ring of descriptors. Everything the driver wrote is read once, into a local, and what
was checked is what is used.
"""

import cython
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
    load_u64,
    store_u32,
    store_u64,
)
from cython.cimports.virtio.memory.table import GuestMemory, log_write, memory_gone
from cython.cimports.virtio.virtqueue.queue import (
    LONGEST_TABLE,
    RING_ADDRESS,
    RING_ADDRESS_WRAPS,
    RING_INDIRECT_NOT_NEGOTIATED,
    RING_INDIRECT_SIZE,
    RING_INDIRECT_WITH_NEXT,
    RING_IOTLB_MISS,
    RING_LOOP,
    RING_MEMORY_GONE,
    RING_NO_MEMORY,
    RING_OK,
    RING_PACKED_TRUNCATED,
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
    ring_area,
)

from virtio.errors import UsageError
from virtio.virtqueue.layout import packed_layout
from virtio.virtqueue.state import QueueState

__all__ = ["PackedDeviceQueue"]


class PackedDeviceQueue(DeviceQueue):
    """The device's end of a packed virtqueue.

    ``descriptors``, ``driver_area`` and ``device_area`` are guest addresses, ``features`` the negotiated set.
    With ``state`` the queue goes on where another one stopped. Raises RingAreaError when the ring cannot be
    there or cannot have this size, UsageError for a state beyond the ring.
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
    ) -> None:
        packed_layout(size)
        DeviceQueue.__init__(self, memory, size, (descriptors, driver_area, device_area), features)
        self.given = cython.cast(cython.pointer[Given], calloc(size, cython.sizeof(Given)))
        if self.given == cython.NULL:
            raise MemoryError
        self._go_to(state or QueueState())
        self.signalled_known = state is None

    def __dealloc__(self) -> None:
        free(self.given)

    def _go_to(self, state: QueueState) -> None:
        self.avail = position_of(state.avail_index, state.avail_wrap, self.size)
        self.used = position_of(state.used_index, state.used_wrap, self.size)

    def state(self) -> QueueState:
        """Where the queue stands. Chains taken and not given back would be lost."""
        return QueueState(self.avail.index, self.used.index, bool(self.avail.wrap), bool(self.used.wrap))

    def reset(self) -> None:
        """Back to the state of a new queue (virtio 1.4, 2.6.1). UsageError while chains are outstanding."""
        if self.outstanding:
            raise UsageError(f"a queue with {self.outstanding} chains outstanding cannot be reset")
        self._go_to(QueueState())
        self.signalled_known = True
        self.held = self.number = self.steps = 0
        self.batched = False
        self.fault = RING_OK
        self.missing = False

    def attach(self, memory: GuestMemory) -> cython.int:
        """Find the three areas; nothing changes if one of them cannot be used."""
        descriptors, driver_area, device_area = self.areas
        sizes = packed_layout(self.size)
        ring = ring_area(memory, descriptors, sizes.descriptors, 16, True, "descriptor ring")
        driver_events = ring_area(memory, driver_area, sizes.driver_area, 4, False, "driver event area")
        device_events = ring_area(memory, device_area, sizes.device_area, 4, True, "device event area")
        self.ring = cython.cast(cython.pointer[Descriptor], ring)
        self.driver_events = cython.cast(cython.pointer[uint32_t], driver_events)
        self.device_events = cython.cast(cython.pointer[uint32_t], device_events)
        return 0

    # -- taking

    def available(self) -> cython.bint:
        if self.fault != RING_OK:
            return False
        flags: uint16_t = load_u16(cython.address(self.ring[self.avail.index].flags), ACQUIRE)
        return (flags & DESC_MARKS) == avail_marks(self.avail.wrap)

    def take(self, chains: cython.pointer[cython.pointer[Chain]], limit: cython.int) -> cython.int:
        fault: cython.int = RING_OK
        count: cython.int = 0
        ahead: cython.bint = False
        if self.fault != RING_OK:
            return self.fault
        self.missing = False
        while count < limit:
            # The flags first: the rest of the descriptor was written before them.
            flags: uint16_t = load_u16(cython.address(self.ring[self.avail.index].flags), ACQUIRE)
            if (flags & DESC_MARKS) != avail_marks(self.avail.wrap):
                break
            chain: cython.pointer[Chain] = chain_new(self)
            if chain == cython.NULL:
                fault = self.stop(RING_NO_MEMORY, 0)
                break
            if not flags & (DESC_NEXT | DESC_INDIRECT):
                fault = take_single(self, chain, flags)
            else:
                if flags & DESC_INDIRECT and not ahead:
                    ahead = True
                    self.look_ahead(limit - count)
                fault = self.walk(chain, flags)
            if fault != RING_OK:
                chain_recycle(self, chain)
                break
            bring_chain_nearer(chain)
            chains[count] = chain
            count += 1
        if memory_gone(self.table):
            return self.take_back(chains, count)
        return count if count != 0 else fault

    def look_ahead(self, limit: cython.int) -> cython.void:
        """Have the next indirect tables fetched, all at the same time.

        Another processor wrote them: one after the other, each would be waited for.
        """
        place: Position = before(cython.address(self.avail), 0, self.size)
        flags: uint16_t
        _: cython.int
        for _ in range(limit):
            descriptor: cython.pointer[Descriptor] = cython.address(self.ring[place.index])
            flags = load_u16(cython.address(descriptor.flags), ACQUIRE)
            if (flags & DESC_MARKS) != avail_marks(place.wrap):
                return
            if flags & DESC_INDIRECT:
                bring_nearer(self.table, load_u64(cython.address(descriptor.address), RELAXED))
            advance(cython.address(place), 1, self.size)

    def take_back(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.int:
        """The ring's memory vanished while it was read: nothing of this batch can be believed."""
        self.put_back(chains, count)
        return self.stop(RING_MEMORY_GONE, 0)

    def put_back(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.void:
        i: cython.int
        for i in range(count):
            self.held -= chains[i].slots
            retreat(cython.address(self.avail), chains[i].slots, self.size)
            chain_recycle(self, chains[i])
        self.outstanding -= count
        if self.in_order:
            self.forget_newest()

    def walk(self, chain: cython.pointer[Chain], flags: uint16_t) -> cython.int:
        """Collect the list of descriptors that begins here (2.8.6). 0 or what `stop` made of it."""
        place: Position = before(cython.address(self.avail), 0, self.size)
        slots: uint32_t = 1
        while True:
            descriptor: cython.pointer[Descriptor] = cython.address(self.ring[place.index])
            address: uint64_t = load_u64(cython.address(descriptor.address), RELAXED)
            length: uint32_t = load_u32(cython.address(descriptor.length), RELAXED)
            fault: cython.int
            if flags & DESC_INDIRECT:
                if not self.indirect:
                    return self.stop(RING_INDIRECT_NOT_NEGOTIATED, place.index)
                if flags & DESC_NEXT or slots > 1:
                    # A list is either all direct or one indirect descriptor (2.8.5, 2.8.19).
                    return self.stop(RING_INDIRECT_WITH_NEXT, place.index)
                fault = self.walk_indirect(chain, address, length)
            else:
                fault = chain_append(self, chain, address, length, (flags & DESC_WRITE) != 0)
            if fault != RING_OK:
                return fault
            if not flags & DESC_NEXT:
                break
            if slots == self.size:
                return self.stop(RING_LOOP, self.avail.index)
            slots += 1
            advance(cython.address(place), 1, self.size)
            flags = load_u16(cython.address(self.ring[place.index].flags), ACQUIRE)
            if (flags & DESC_MARKS) != avail_marks(place.wrap):
                # All of a list is made available before its first descriptor (2.8.17).
                return self.stop(RING_PACKED_TRUNCATED, self.avail.index)
        return admit(self, chain, load_u16(cython.address(descriptor.id), RELAXED), slots)

    def walk_indirect(self, chain: cython.pointer[Chain], address: uint64_t, length: uint32_t) -> cython.int:
        """Collect an indirect table: every entry, of whose flags only WRITE counts (2.8.7)."""
        run: uint64_t = 0
        offset: uint64_t = 0
        copy = cython.declare(cython.char[DESC_BYTES])
        if length == 0 or length % DESC_BYTES != 0:
            return self.stop(RING_INDIRECT_SIZE, length)
        if length // DESC_BYTES > max(self.size, LONGEST_TABLE):
            return self.stop(RING_LOOP, self.avail.index)
        if address + (length - 1) < address:
            return self.stop(RING_ADDRESS_WRAPS, address)
        place: cython.p_char = self.readable_run(address, length, cython.address(run))
        if place == cython.NULL:
            return self.stop(RING_IOTLB_MISS if self.table.iotlb else RING_ADDRESS, address)
        while offset != length:
            fault: cython.int = RING_OK
            if run != length:
                fault = self.gather(address + offset, copy, DESC_BYTES)
            if fault == RING_OK:
                found = copy_descriptor(place + offset if run == length else copy)
                fault = chain_append(self, chain, found.address, found.length, found.flags & DESC_WRITE != 0)
            if fault != RING_OK:
                return fault
            offset += DESC_BYTES
        return RING_OK

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
        """Write what was noted down, the first cache line last and backwards.

        The driver looks at one descriptor only, the next to be used (2.8.2), so it sees nothing of a batch
        before that one's flags, and then all of it. As it may be polling there, that one's cache line comes
        and goes: others in it are written together with it.
        """
        first: uint32_t = self.given[0].index
        lead: uint32_t = 1
        i: uint32_t
        while (
            lead < self.number
            and self.given[lead].index > first
            and self.given[lead].index // IN_LINE == first // IN_LINE
        ):
            lead += 1
        for i in range(lead, self.number):
            self.write_descriptor(self.given + i)
        while lead > 0:
            lead -= 1
            self.write_descriptor(self.given + lead)
        self.number = 0
        self.batched = False

    def write_descriptor(self, given: cython.pointer[cython.const[Given]]) -> cython.void:
        """One of them, behind all that was written before."""
        descriptor: cython.pointer[Descriptor] = cython.address(self.ring[given.index])
        store_u64(half_of(descriptor), given.half, RELEASE)
        if self.table.log != cython.NULL:
            log_write(self.table, cython.cast(cython.p_char, descriptor), DESC_BYTES)

    def publish(self) -> cython.bint:
        steps: uint32_t = self.steps
        if steps == 0:
            return False
        first: Position = before(cython.address(self.used), steps, self.size)
        self.steps = 0
        self.write_given()
        # The descriptors must be seen before it is asked whether to notify (2.8.10).
        fence(SEQ_CST)
        events: uint32_t = load_u32(self.driver_events, RELAXED)
        if not self.signalled_known:
            self.signalled_known = True
            return not events_disabled(events)
        return event_due(events, self.event_idx, first, steps, self.size)

    def enable_notifications(self) -> cython.bint:
        self._store_events(event_word(self.avail, self.event_idx))
        # Ask first, then look once more: what comes after this look is notified.
        fence(SEQ_CST)
        return self.available()

    def disable_notifications(self) -> cython.void:
        self._store_events(EVENTS_DISABLE << 16)

    # -- memory

    def _store_events(self, events: uint32_t) -> cython.void:
        """Tell the driver which notifications we want; the line is not touched if it says so already."""
        if load_u32(self.device_events, RELAXED) == events:
            return
        store_u32(self.device_events, events, RELEASE)
        if self.table.log != cython.NULL:
            log_write(self.table, cython.cast(cython.p_char, self.device_events), 4)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def take_single(queue: PackedDeviceQueue, chain: cython.pointer[Chain], flags: uint16_t) -> cython.int:
    """Take a chain that is the next descriptor, all of it: nearly every one. 0 or what `stop` made of it."""
    descriptor: cython.pointer[Descriptor] = cython.address(queue.ring[queue.avail.index])
    address: uint64_t = load_u64(cython.address(descriptor.address), RELAXED)
    length: uint32_t = load_u32(cython.address(descriptor.length), RELAXED)
    writable: cython.bint = (flags & DESC_WRITE) != 0
    fault: cython.int
    if not chain_single(queue, chain, address, length, writable):
        fault = queue.append(chain, address, length, writable)
        if fault != RING_OK:
            return fault
    return admit(queue, chain, load_u16(cython.address(descriptor.id), RELAXED), 1)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def admit(
    queue: PackedDeviceQueue, chain: cython.pointer[Chain], id: uint16_t, slots: uint32_t
) -> cython.int:
    """Count a well-formed chain as taken. 0 or what `stop` made of it."""
    if queue.held + slots > queue.size:
        return queue.stop(RING_TOO_MANY_OUTSTANDING, id)
    chain.id = id
    chain.slots = slots
    queue.held += slots
    queue.outstanding += 1
    advance(cython.address(queue.avail), slots, queue.size)
    if queue.in_order:
        chain_queue_up(queue, chain)
    return RING_OK


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def put_used(queue: PackedDeviceQueue, chain: cython.pointer[Chain]) -> cython.void:
    """Note down a used descriptor; `publish` writes it.

    With IN_ORDER one is enough for a batch: it names the last chain, and those before it count as used
    completely (2.8.8), which is right of any that there was nothing to be written to.
    """
    if queue.batched:
        queue.number -= 1
    elif queue.number == queue.size:
        queue.write_given()  # only a driver that makes descriptors available twice brings it here
    given: cython.pointer[Given] = queue.given + queue.number
    if not queue.batched:
        given.index = queue.used.index
        given.marks = used_marks(queue.used.wrap)
    given.half = second_half(chain.written, chain.id, given.marks | (DESC_WRITE if chain.written else 0))
    queue.number += 1
    queue.batched = queue.in_order and chain.writable == 0
    queue.steps += chain.slots
    queue.held -= chain.slots
    queue.outstanding -= 1
    advance(cython.address(queue.used), chain.slots, queue.size)
    chain_recycle(queue, chain)


def position_of(index: uint32_t, wrap: cython.bint, size: uint32_t) -> Position:
    """A place in a ring of ``size`` descriptors; UsageError for one beyond it."""
    position: Position
    if index >= size:
        raise UsageError(f"a packed ring of {size} descriptors has no position {index}")
    position.index = index
    position.wrap = wrap
    return position
