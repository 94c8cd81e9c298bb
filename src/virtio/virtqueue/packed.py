"""Packed virtqueues, both ends (virtio 1.4, 2.8). Twin of `split`."""

import cython
from cython.cimports.libc.errno import EINVAL, ENOSPC
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.virtqueue import queue
from cython.cimports.virtio.virtqueue.queue import Buffer, Chain, Completion, DeviceQueue, DriverQueue

from virtio.virtqueue.state import QueueState

__all__ = ["PackedDeviceQueue", "PackedDriverQueue"]


@cython.final
class PackedDeviceQueue(DeviceQueue):
    """The device's end of a packed virtqueue."""

    def available(self):
        flags: uint16_t = atomic.load_u16(cython.address(self.ring[self.avail.index].flags), atomic.ACQUIRE)
        return (flags & DESC_MARKS) == avail_marks(self.avail)

    def take(self, chains, limit):
        count: cython.int = 0
        fault: cython.int
        flags: uint16_t
        chain: cython.pointer[Chain]
        if self.fault:
            return self.fault
        while count < limit:
            # Flags first, with acquire: the rest of the descriptor was written before them.
            flags = atomic.load_u16(cython.address(self.ring[self.avail.index].flags), atomic.ACQUIRE)
            if (flags & DESC_MARKS) != avail_marks(self.avail):
                break
            chain = self.new_chain()
            if chain == cython.NULL:
                fault = queue.RING_NO_MEMORY
            else:
                fault = self.read_chain(chain, flags)
            if fault:
                return self.refuse(chain, fault, count)
            advance(cython.address(self.avail), chain.slots, self.size)
            self.held_slots += chain.slots
            chains[count] = chain
            count += 1
        return count

    def read_chain(self, chain, flags):
        """Collect a list of descriptors (2.8.6). 0 or a RingFault."""
        place: Position = self.avail
        slots: uint32_t = 1
        fault: cython.int
        descriptor: cython.pointer[Descriptor]
        address: uint64_t
        length: uint32_t
        while True:
            descriptor = cython.address(self.ring[place.index])
            address = atomic.load_u64(cython.address(descriptor.address), atomic.RELAXED)
            length = atomic.load_u32(cython.address(descriptor.length), atomic.RELAXED)
            if flags & DESC_INDIRECT:
                # A list is either all direct or one indirect descriptor (2.8.5, 2.8.19).
                if flags & DESC_NEXT or slots > 1:
                    fault = queue.RING_INDIRECT_WITH_NEXT
                else:
                    fault = self.read_table(chain, address, length)
            else:
                fault = self.append(chain, address, length, flags & DESC_WRITE)
            if fault:
                return fault
            if not flags & DESC_NEXT:
                break
            if slots == self.size:
                self.fault_detail = place.index
                return queue.RING_LOOP
            advance(cython.address(place), 1, self.size)
            slots += 1
            flags = atomic.load_u16(cython.address(self.ring[place.index].flags), atomic.ACQUIRE)
            # All of a list is made available before its first descriptor (2.8.17).
            if (flags & DESC_MARKS) != avail_marks(place):
                self.fault_detail = place.index
                return queue.RING_PACKED_TRUNCATED
        if self.held_slots + slots > self.size:
            self.fault_detail = self.held_slots + slots
            return queue.RING_TOO_MANY_OUTSTANDING
        chain.id = atomic.load_u16(cython.address(descriptor.id), atomic.RELAXED)
        chain.slots = slots
        return 0
