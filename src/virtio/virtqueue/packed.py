"""Packed virtqueues, both ends (virtio 1.4, 2.8). Twin of `split`."""

import cython
from cython.cimports.libc.errno import EINVAL, ENOSPC
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.table import GuestMemory, Region, locate, log_write, memory_gone
from cython.cimports.virtio.virtqueue import queue
from cython.cimports.virtio.virtqueue.queue import (
    Buffer,
    Chain,
    Completion,
    DeviceQueue,
    DriverQueue,
    chain_append,
    chain_log,
    chain_new,
    chain_recycle,
    ring_area,
)

from virtio.errors import RingAreaError, UsageError
from virtio.virtqueue.state import QueueState

__all__ = ["PackedDeviceQueue", "PackedDriverQueue"]

_LARGEST = 32768


def _check_size(size: int) -> None:
    if not 1 <= size <= _LARGEST:
        raise RingAreaError(f"a packed queue of {size} descriptors: from 1 to {_LARGEST} are possible")


@cython.cfunc
def _position(index: int, wrap: bool, size: int) -> Position:
    """A place in the ring; UsageError for one beyond it."""
    position: Position
    if not 0 <= index < size:
        raise UsageError(f"position {index} in a packed queue of {size} descriptors")
    position.index = index
    position.wrap = wrap
    return position


class PackedDeviceQueue(DeviceQueue):
    """The device's end of a packed virtqueue."""

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
        _check_size(size)
        DeviceQueue.__init__(self, memory, size, (descriptors, driver_area, device_area), features)
        self._place(state or QueueState())

    def _place(self, state: QueueState) -> None:
        self.avail = _position(state.avail_index, state.avail_wrap, self.size)
        self.used = _position(state.used_index, state.used_wrap, self.size)

    def state(self) -> QueueState:
        """Where the queue stands. Chains taken and not given back would be lost."""
        return QueueState(self.avail.index, self.used.index, bool(self.avail.wrap), bool(self.used.wrap))

    def reset(self) -> None:
        """Back to the state of a new queue (virtio 1.4, 2.6.1). UsageError while chains are outstanding."""
        if self.outstanding:
            raise UsageError(f"a queue with {self.outstanding} chains outstanding cannot be reset")
        self.fault = queue.RING_OK
        self.missing = False
        self.steps = self.held = 0
        self._place(QueueState())

    def attach(self, memory: GuestMemory) -> cython.int:
        """Find the ring and both event suppression areas."""
        descriptors, driver_area, device_area = self.areas
        ring = ring_area(memory, descriptors, 16 * self.size, 16, True, "descriptor ring")
        driver_events = ring_area(memory, driver_area, 4, 4, False, "driver event suppression area")
        device_events = ring_area(memory, device_area, 4, 4, True, "device event suppression area")
        self.ring = cython.cast(cython.pointer[Descriptor], ring)
        self.driver_events = cython.cast(cython.pointer[uint32_t], driver_events)
        self.device_events = cython.cast(cython.pointer[uint32_t], device_events)
        return 0

    def available(self) -> cython.bint:
        flags: uint16_t = atomic.load_u16(cython.address(self.ring[self.avail.index].flags), atomic.ACQUIRE)
        return (flags & DESC_MARKS) == avail_marks(self.avail)

    def take(self, chains: cython.pointer[cython.pointer[Chain]], limit: cython.int) -> cython.int:
        count: cython.int = 0
        fault: cython.int = self.fault
        self.missing = False
        while fault == queue.RING_OK and count < limit:
            # Flags first, with acquire: the rest of the descriptor was written before them.
            flags: uint16_t = atomic.load_u16(
                cython.address(self.ring[self.avail.index].flags), atomic.ACQUIRE
            )
            if (flags & DESC_MARKS) != avail_marks(self.avail):
                break
            chain: cython.pointer[Chain] = chain_new(self)
            if chain == cython.NULL:
                fault = self.stop(queue.RING_NO_MEMORY, 0)
                break
            fault = self.walk(chain, flags)
            if fault != queue.RING_OK:
                chain_recycle(self, chain)
                break
            self.admit(chain)
            chains[count] = chain
            count += 1
        return count if count else fault

    def admit(self, chain: cython.pointer[Chain]) -> cython.void:
        """Step over a chain and remember it."""
        advance(cython.address(self.avail), chain.slots, self.size)
        self.held += chain.slots
        self.outstanding += 1
        chain.sequence = self.taken
        self.taken += 1
        if not self.in_order:
            return
        if self.newest == cython.NULL:
            self.oldest = chain
        else:
            self.newest.next = chain
        self.newest = chain

    def walk(self, chain: cython.pointer[Chain], flags: uint16_t) -> cython.int:
        """Collect the list of descriptors that begins here (2.8.6). 0 or what `stop` made of it."""
        place: Position = self.avail
        slots: uint32_t = 1
        while True:
            descriptor: cython.pointer[Descriptor] = cython.address(self.ring[place.index])
            address: uint64_t = atomic.load_u64(cython.address(descriptor.address), atomic.RELAXED)
            length: uint32_t = atomic.load_u32(cython.address(descriptor.length), atomic.RELAXED)
            fault: cython.int
            if flags & DESC_INDIRECT:
                if flags & DESC_NEXT or slots > 1:
                    # A list is either all direct or one indirect descriptor (2.8.5, 2.8.19).
                    return self.stop(queue.RING_INDIRECT_WITH_NEXT, place.index)
                fault = self.walk_indirect(chain, address, length)
            else:
                fault = chain_append(self, chain, address, length, (flags & DESC_WRITE) != 0)
            if fault != queue.RING_OK:
                return fault
            if not flags & DESC_NEXT:
                break
            if slots == self.size:
                return self.stop(queue.RING_LOOP, self.avail.index)
            slots += 1
            advance(cython.address(place), 1, self.size)
            flags = atomic.load_u16(cython.address(self.ring[place.index].flags), atomic.ACQUIRE)
            if (flags & DESC_MARKS) != avail_marks(place):
                # All of a list is made available before its first descriptor (2.8.17).
                return self.stop(queue.RING_PACKED_TRUNCATED, self.avail.index)
        chain.id = atomic.load_u16(cython.address(descriptor.id), atomic.RELAXED)
        chain.slots = slots
        if self.held + slots > self.size:
            return self.stop(queue.RING_TOO_MANY_OUTSTANDING, chain.id)
        return queue.RING_OK

    def walk_indirect(self, chain: cython.pointer[Chain], address: uint64_t, length: uint32_t) -> cython.int:
        """Collect an indirect table: every entry, of whose flags only WRITE counts (2.8.7)."""
        entry: Descriptor
        if not self.indirect:
            return self.stop(queue.RING_INDIRECT_NOT_NEGOTIATED, self.avail.index)
        if length == 0 or length % cython.sizeof(Descriptor):
            return self.stop(queue.RING_INDIRECT_SIZE, length)
        if length // cython.sizeof(Descriptor) > self.size:
            return self.stop(queue.RING_LOOP, self.avail.index)
        if address + (length - 1) < address:
            return self.stop(queue.RING_ADDRESS_WRAPS, address)
        end: uint64_t = address + length
        while address != end:
            fault: cython.int = self._gather(address, cython.address(entry))
            if fault == queue.RING_OK:
                writable: cython.bint = (entry.flags & DESC_WRITE) != 0
                fault = chain_append(self, chain, entry.address, entry.length, writable)
            if fault != queue.RING_OK:
                return fault
            address += cython.sizeof(Descriptor)
        return queue.RING_OK

    def _gather(self, address: uint64_t, entry: cython.pointer[Descriptor]) -> cython.int:
        """Copy a table's descriptor, which may lie in two regions. 0 or what `stop` made of it."""
        done: uint64_t = 0
        while done < cython.sizeof(Descriptor):
            region: cython.pointer[Region] = locate(self.table, address + done)
            if region == cython.NULL or not region.readable:
                self.missing_write = False
                fault: cython.int = queue.RING_IOTLB_MISS if self.table.iotlb else queue.RING_ADDRESS
                return self.stop(fault, address + done)
            offset: uint64_t = address + done - region.guest
            run: uint64_t = min(region.size - offset, cython.sizeof(Descriptor) - done)
            memcpy(cython.cast(cython.p_char, entry) + done, region.host + offset, run)
            done += run
        # What is judged from here on is the copy: the driver may go on writing to the table.
        atomic.compiler_fence(atomic.SEQ_CST)
        return queue.RING_OK

    def give(self, chain: cython.pointer[Chain], written: uint32_t) -> cython.void:
        chain.written = written
        self.outstanding -= 1
        chain_log(self, chain)
        if not self.in_order:
            self.put_used(chain)
            return
        chain.given = True
        while self.oldest != cython.NULL and self.oldest.given:
            chain = self.oldest
            self.oldest = chain.next
            if self.oldest == cython.NULL:
                self.newest = cython.NULL
            self.put_used(chain)

    def put_used(self, chain: cython.pointer[Chain]) -> cython.void:
        """Write a used descriptor, but keep back the flags of the first one since the last publish.

        The driver looks at one descriptor only, the next to be used (2.8.2), so it sees nothing of a batch
        before that one's flags, and then all of it.
        """
        descriptor: cython.pointer[Descriptor] = cython.address(self.ring[self.used.index])
        flags: uint16_t = used_marks(self.used)
        if chain.written:
            flags |= DESC_WRITE
        atomic.store_u32(cython.address(descriptor.length), chain.written, atomic.RELAXED)
        atomic.store_u16(cython.address(descriptor.id), chain.id, atomic.RELAXED)
        if self.steps == 0:
            self.first = self.used
            self.first_flags = flags
        else:
            atomic.store_u16(cython.address(descriptor.flags), flags, atomic.RELAXED)
            self._log_used(descriptor)
        self.steps += chain.slots
        self.held -= chain.slots
        advance(cython.address(self.used), chain.slots, self.size)
        chain_recycle(self, chain)

    def _log_used(self, descriptor: cython.pointer[Descriptor]) -> cython.void:
        if self.table.log != cython.NULL:
            log_write(self.table, cython.cast(cython.p_char, descriptor), cython.sizeof(Descriptor))

    def publish(self) -> cython.bint:
        steps: uint32_t = self.steps
        if steps == 0:
            return False
        self.steps = 0
        descriptor: cython.pointer[Descriptor] = cython.address(self.ring[self.first.index])
        atomic.store_u16(cython.address(descriptor.flags), self.first_flags, atomic.RELEASE)
        self._log_used(descriptor)
        # The descriptors must be seen before it is asked whether to notify (2.8.10).
        atomic.fence(atomic.SEQ_CST)
        events: uint32_t = atomic.load_u32(self.driver_events, atomic.RELAXED)
        return event_due(events, self.event_idx, self.first, steps, self.size)

    def enable_notifications(self) -> cython.bint:
        self._store_events(event_word(self.avail, self.event_idx))
        # Ask first, then look once more: what comes after this look is notified.
        atomic.fence(atomic.SEQ_CST)
        return self.available()

    def disable_notifications(self) -> cython.void:
        self._store_events(EVENTS_DISABLE << 16)

    def _store_events(self, events: uint32_t) -> cython.void:
        """Tell the driver which notifications we want; the line is not touched if it says so already."""
        if atomic.load_u32(self.device_events, atomic.RELAXED) == events:
            return
        atomic.store_u32(self.device_events, events, atomic.RELEASE)
        if self.table.log != cython.NULL:
            log_write(self.table, cython.cast(cython.p_char, self.device_events), 4)
