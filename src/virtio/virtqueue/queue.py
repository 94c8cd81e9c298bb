"""What split and packed queues share, on the device's side and on the driver's.

Compiled devices and drivers use the methods that `queue.pxd` declares. For Python there are others that do
the same one chain at a time: ``pop``, ``push``, ``publish_used`` and, for the driver, ``add_buffers``,
``publish_added``, ``reap_completions``.
"""

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.libc.errno import EINVAL, ENOSPC
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.memory.table import GuestMemory, Region, locate

from virtio.errors import DeviceError, DriverError, RingAreaError, UsageError
from virtio.spec.features import EVENT_IDX, IN_ORDER, INDIRECT_DESC
from virtio.virtqueue.faults import ring_error
from virtio.virtqueue.state import QueueState

__all__ = ["DeviceQueue", "DriverQueue", "PoppedChain"]


def _has(features: int, bit: int) -> bool:
    return bool(features >> bit & 1)


def ring_area(
    memory: GuestMemory,
    address: uint64_t,
    length: uint64_t,
    alignment: uint64_t,
    writable: cython.bint,
    name: str,
) -> cython.p_char:
    """Find a ring area of ``length`` bytes in this process; RingAreaError unless it can be used there."""
    region: cython.pointer[Region] = locate(cython.address(memory.table), address)
    where = f"the {name} at {int(address):#x}"
    if address % alignment:
        raise RingAreaError(f"{where} is not aligned to {int(alignment)}")
    if region == cython.NULL:
        raise RingAreaError(f"{where} is not in guest memory")
    offset: uint64_t = address - region.guest
    if region.size - offset < length:
        raise RingAreaError(f"{where} needs {int(length)} bytes and its memory region ends before")
    if not region.readable or (writable and not region.writable):
        raise RingAreaError(f"{where} is in memory that the device may not access so")
    host: cython.p_char = region.host + offset
    if cython.cast(uint64_t, host) % alignment:
        raise RingAreaError(f"{where} lies in a memory region that is itself not aligned to {int(alignment)}")
    return host


class PoppedChain:
    """A chain of buffers that the driver offered, from ``pop`` until ``push`` gives it back."""

    def __init__(self) -> None:
        raise TypeError("use DeviceQueue.pop")

    @property
    def id(self) -> int:
        """What names the chain on the ring: its head descriptor, or a packed ring's buffer id."""
        return self._held().id

    @property
    def slots(self) -> int:
        """How many descriptors of the ring it occupies."""
        return self._held().slots

    @property
    def readable(self) -> tuple:
        """What the device reads: read-only memoryviews over guest memory, adjacent buffers joined."""
        chain = self._held()
        return self._views(0, chain.readable, False)

    @property
    def writable(self) -> tuple:
        """What the device writes: writable memoryviews over guest memory, adjacent buffers joined."""
        chain = self._held()
        return self._views(chain.readable, chain.writable, True)

    @property
    def readable_length(self) -> int:
        """Bytes the device reads."""
        return self._held().readable_length

    @property
    def writable_length(self) -> int:
        """Bytes the device may write."""
        return self._held().writable_length

    def _held(self) -> cython.pointer[Chain]:
        if self.chain == cython.NULL:
            raise UsageError("the chain was given back already")
        return self.chain

    def _views(self, first: uint32_t, count: uint32_t, writable: cython.bint):
        i: uint32_t
        views = []
        for i in range(first, first + count):
            segment: iovec = self.chain.segments[i]
            host = cython.cast(cython.p_char, segment.iov_base)
            views.append(self.memory.window(host, segment.iov_len, writable))
        return tuple(views)


class DeviceQueue:
    """The device's end of a virtqueue."""

    def __init__(self, memory: GuestMemory, size: int, areas: tuple, features: int = 0) -> None:
        if self.blocks != cython.NULL or self.memory is not None:
            raise TypeError("a queue is made once")
        self.size = size
        self.areas = areas
        self.indirect = _has(features, INDIRECT_DESC)
        self.event_idx = _has(features, EVENT_IDX)
        self.in_order = _has(features, IN_ORDER)
        self.former = []
        self.attach(memory)
        self.memory = memory
        self.table = cython.address(memory.table)

    def __dealloc__(self) -> None:
        i: cython.int
        while self.blocks != cython.NULL:
            block: cython.pointer[ChainBlock] = self.blocks
            for i in range(CHAIN_BLOCK):
                if block.chains[i].segments != block.chains[i].inline_segments:
                    free(block.chains[i].segments)
            self.blocks = block.next
            free(block)

    # -- what Python uses

    def pop(self) -> PoppedChain | None:
        """Take the next available chain; None if there is none.

        Raises the RingError that stopped the queue, or IotlbMissError, after which `pop` can be tried again
        with a memory that has the translation.
        """
        chain: cython.pointer[Chain] = cython.NULL
        count: cython.int = self.take(cython.address(chain), 1)
        if count < 0:
            raise ring_error(count, self.fault_detail, self.size)
        if count == 0:
            return None
        popped: PoppedChain = PoppedChain.__new__(PoppedChain)
        popped.queue = self
        popped.memory = self.memory
        popped.chain = chain
        return popped

    def push(self, chain: PoppedChain, written: int = 0) -> None:
        """Give a chain back, ``written`` bytes of its writable part being written. See `publish_used`."""
        held: cython.pointer[Chain] = chain._held()
        if chain.queue is not self:
            raise UsageError("the chain is another queue's")
        if not 0 <= written <= min(held.writable_length, 0xFFFFFFFF):
            raise UsageError(f"{written} bytes written to a chain of {int(held.writable_length)}")
        chain.chain = cython.NULL
        self.give(held, written)

    def publish_used(self) -> bool:
        """Make everything pushed visible. True if the driver asked to be notified of it."""
        return self.publish()

    def is_available(self) -> bool:
        """Whether the driver made anything available that was not taken."""
        return self.available()

    def request_notifications(self) -> bool:
        """Ask the driver for notifications. True if something is available already."""
        return self.enable_notifications()

    def suppress_notifications(self) -> None:
        """Tell the driver that no notification is needed; one may come all the same."""
        self.disable_notifications()

    def set_memory(self, memory: GuestMemory) -> None:
        """Go on with another memory (regions added or removed, logging, a new I/O TLB snapshot).

        Chains already taken keep the memory they were found in. Raises RingAreaError if the ring itself is
        not in the new memory. To be called by the queue's own thread or while that is paused.
        """
        self.attach(memory)
        if self.outstanding == 0:
            self.former.clear()
        elif self.memory is not memory:
            self.former.append(self.memory)
        self.memory = memory
        self.table = cython.address(memory.table)

    def state(self) -> QueueState:
        """Where the queue stands. Chains taken and not given back would be lost."""
        raise NotImplementedError

    def reset(self) -> None:
        """Back to the state of a new queue (virtio 1.4, 2.6.1). UsageError while chains are outstanding."""
        raise NotImplementedError

    def fault_error(self) -> DriverError | DeviceError | None:
        """Why the queue stopped, as an exception with the offending number in its message."""
        return ring_error(self.fault, self.fault_detail, self.size) if self.fault else None

    @property
    def iotlb_miss(self) -> tuple | None:
        """The address the last take found no translation for, and whether it is to be written."""
        return (self.fault_detail, self.missing_write) if self.missing else None

    # -- what the two kinds share

    def attach(self, memory: GuestMemory) -> cython.int:
        raise NotImplementedError

    def available(self) -> cython.bint:
        return False

    def take(self, chains: cython.pointer[cython.pointer[Chain]], limit: cython.int) -> cython.int:
        return 0

    def put_back(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.void:
        pass

    def give(self, chain: cython.pointer[Chain], written: uint32_t) -> cython.void:
        chain.written = written
        self.give_row(cython.address(chain), 1)

    def give_row(self, chains: cython.pointer[cython.pointer[Chain]], count: cython.int) -> cython.void:
        pass

    def publish(self) -> cython.bint:
        return False

    def enable_notifications(self) -> cython.bint:
        return False

    def disable_notifications(self) -> cython.void:
        pass

    def new_chain(self) -> cython.pointer[Chain]:
        return chain_new(self)

    def recycle(self, chain: cython.pointer[Chain]) -> cython.void:
        chain_recycle(self, chain)

    def append(
        self, chain: cython.pointer[Chain], address: uint64_t, length: uint32_t, writable: cython.bint
    ) -> cython.int:
        return chain_append(self, chain, address, length, writable)

    def forget_newest(self) -> cython.void:
        kept: uint32_t = self.outstanding
        if kept == 0:
            self.oldest = self.newest = cython.NULL
            return
        self.newest = self.oldest
        while kept > 1:
            self.newest = self.newest.next
            kept -= 1
        self.newest.next = cython.NULL

    def readable_run(
        self, address: uint64_t, length: uint64_t, run: cython.pointer[uint64_t]
    ) -> cython.p_char:
        self.missing_write = False
        region: cython.pointer[Region] = locate(self.table, address)
        if region == cython.NULL or not region.readable:
            return cython.NULL
        offset: uint64_t = address - region.guest
        run[0] = min(region.size - offset, length)
        return region.host + offset

    def gather(self, address: uint64_t, copy: cython.p_char, length: uint64_t) -> cython.int:
        done: uint64_t = 0
        run: uint64_t = 0
        while done < length:
            place: cython.p_char = self.readable_run(address + done, length - done, cython.address(run))
            if place == cython.NULL:
                return self.stop(RING_IOTLB_MISS if self.table.iotlb else RING_ADDRESS, address + done)
            memcpy(copy + done, place, run)
            done += run
        return RING_OK

    def stop(self, fault: cython.int, detail: uint64_t) -> cython.int:
        self.fault_detail = detail
        if fault == RING_IOTLB_MISS:
            self.missing = True
        else:
            self.fault = fault
        return fault


def more_chains(queue: DeviceQueue) -> cython.pointer[Chain]:
    """Put a block of new chains on the free list and return its first."""
    i: cython.int
    size: cython.size_t = (cython.sizeof(ChainBlock) + LINE - 1) // LINE * LINE
    block = cython.cast(cython.pointer[ChainBlock], aligned_alloc(LINE, size))
    if block == cython.NULL:
        return cython.NULL
    memset(block, 0, size)
    block.next = queue.blocks
    queue.blocks = block
    for i in range(CHAIN_BLOCK):
        chain: cython.pointer[Chain] = cython.address(block.chains[CHAIN_BLOCK - 1 - i])
        chain.segments = chain.inline_segments
        chain.capacity = INLINE_SEGMENTS
        chain_recycle(queue, chain)
    return queue.free


def grow_segments(chain: cython.pointer[Chain]) -> cython.int:
    """Make room for twice as many segments. 0, or RING_NO_MEMORY."""
    size: cython.size_t = chain.capacity * cython.sizeof(iovec)
    larger = cython.cast(cython.pointer[iovec], malloc(2 * size))
    if larger == cython.NULL:
        return RING_NO_MEMORY
    memcpy(larger, chain.segments, size)
    if chain.segments != chain.inline_segments:
        free(chain.segments)
    chain.segments = larger
    chain.capacity *= 2
    return RING_OK


class DriverQueue:
    """The driver's end of a virtqueue."""

    def __init__(self, memory: GuestMemory, size: int, areas: tuple, features: int = 0) -> None:
        if self.memory is not None:
            raise TypeError("a queue is made once")
        self.memory = memory
        self.size = size
        self.areas = areas
        self.free_descriptors = size
        self.indirect = _has(features, INDIRECT_DESC)
        self.event_idx = _has(features, EVENT_IDX)
        self.in_order = _has(features, IN_ORDER)

    # -- what Python uses

    def add_buffers(self, readable, writable=(), token: int = 0) -> bool:
        """Offer a chain of (address, length) buffers; ``token`` comes back with its completion.

        False if the ring is full. UsageError for a chain that is empty or longer than the queue.
        """
        buffers = [*readable, *writable]
        array = cython.cast(cython.pointer[Buffer], PyMem_Malloc((len(buffers) + 1) * cython.sizeof(Buffer)))
        if array == cython.NULL:
            raise MemoryError
        try:
            for i, (address, length) in enumerate(buffers):
                array[cython.cast(cython.size_t, i)].address = address
                array[cython.cast(cython.size_t, i)].length = length
            result: cython.int = self.add(array, len(readable), len(writable), token)
        finally:
            PyMem_Free(array)
        if result == -EINVAL:
            raise UsageError(
                f"a chain of {len(buffers)} buffers cannot be offered on a queue of {int(self.size)}"
            )
        return result == 0

    def publish_added(self) -> bool:
        """Make everything added visible. True if the device wants a notification."""
        return self.publish()

    def reap_completions(self, limit: int = 256) -> list:
        """Collect finished chains as (token, bytes written). Raises what stopped the queue, if so."""
        completion: Completion
        reaped: list = []
        while len(reaped) < limit:
            count: cython.int = self.reap(cython.address(completion), 1)
            if count == 0 or (count < 0 and reaped):
                break
            if count < 0:
                raise ring_error(count, self.fault_detail, self.size)
            reaped.append((completion.token, completion.written))
        return reaped

    def is_finished(self) -> bool:
        """Whether the device has finished anything that was not reaped."""
        return self.finished()

    def request_notifications(self) -> bool:
        """Ask the device for notifications. True if something finished meanwhile."""
        return self.enable_notifications()

    def suppress_notifications(self) -> None:
        """Tell the device that no notification is needed; one may come all the same."""
        self.disable_notifications()

    def notification_value(self, index: int) -> int:
        """What a notification of queue ``index`` carries with NOTIFICATION_DATA (virtio 1.4, 2.9)."""
        return self.notification_data(index)

    def state(self) -> QueueState:
        """Where the queue stands: next index to offer and next to reap."""
        raise NotImplementedError

    def fault_error(self) -> DriverError | DeviceError | None:
        """What the device did wrong, as an exception; None while all is well."""
        return ring_error(self.fault, self.fault_detail, self.size) if self.fault else None

    # -- what the two kinds implement

    def add(
        self,
        buffers: cython.pointer[cython.const[Buffer]],
        readable: cython.int,
        writable: cython.int,
        token: uint64_t,
    ) -> cython.int:
        return -ENOSPC

    def publish(self) -> cython.bint:
        return False

    def reap(self, completions: cython.pointer[Completion], limit: cython.int) -> cython.int:
        return 0

    def finished(self) -> cython.bint:
        return False

    def enable_notifications(self) -> cython.bint:
        return False

    def disable_notifications(self) -> cython.void:
        pass

    def notification_data(self, index: uint16_t) -> uint32_t:
        return index

    def stop(self, fault: cython.int, detail: uint64_t) -> cython.int:
        self.fault = fault
        self.fault_detail = detail
        return fault
