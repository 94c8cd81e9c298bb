"""A transmit queue's buffers: frames are copied into them and given to the device in bursts.

Every buffer is a slot of a fixed size; a frame longer than one takes several, which need not be neighbours.
"""

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.libc.errno import ENOSPC
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy
from cython.cimports.virtio.drivers.channel import Channel
from cython.cimports.virtio.drivers.net.receiver import LONGEST_HEADER, Frame
from cython.cimports.virtio.drivers.net.transmitter import LAST, LONGEST_FRAME, MOST_SLOTS, SHORTEST_FRAME
from cython.cimports.virtio.virtqueue.queue import Buffer, Completion

from virtio.drivers.net.slots import memory_needed, stride
from virtio.errors import UsageError

__all__ = ["Transmitter"]


@cython.cclass
class Transmitter:
    """The buffers of one transmit queue; ``buffer`` (of the arena) is cut into as many as the queue holds."""

    def __init__(self, channel: Channel, buffer, *, slot_size: int, header_size: int) -> None:
        if self.links != cython.NULL:
            raise TypeError("made once")
        if not header_size <= LONGEST_HEADER or not header_size < slot_size:
            raise ValueError(f"a header of {header_size} bytes in buffers of {slot_size}")
        if len(buffer.view) < memory_needed(channel.queue.size, slot_size):
            raise ValueError("too little memory for the queue")
        view: cython.uchar[::1] = buffer.view
        self.channel = channel
        self.queue = channel.queue
        self.buffer = buffer
        self.bytes = cython.cast(cython.p_char, cython.address(view[0]))
        self.address = buffer.address
        self.slots = channel.queue.size
        self.slot_size = slot_size
        self.stride = stride(slot_size)
        self.header_size = header_size
        self.longest = min(min(self.slots, MOST_SLOTS) * slot_size - header_size, LONGEST_FRAME)
        self.allocate()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def allocate(self) -> cython.int:
        """Make our own records, with every slot free."""
        i: uint32_t
        self.links = cython.cast(cython.pointer[uint32_t], calloc(self.slots, cython.sizeof(uint32_t)))
        if self.links == cython.NULL:
            raise MemoryError
        for i in range(self.slots):
            self.links[i] = i + 1
        self.links[self.slots - 1] = LAST
        self.free_count = self.slots
        return 0

    def __dealloc__(self) -> None:
        free(self.links)

    @property
    def outstanding(self) -> int:
        """Frames that the device still has."""
        return self.queue.outstanding

    def retire(self) -> None:
        """The queue is gone."""
        self.buffer.free()

    def send(self, frames, start: int, checker) -> int:
        """Offer ``frames`` from ``start`` on, as many as there is room for, and show them to the device.

        The number of the first one that was not offered. ``checker`` turns what comes with a frame into its
        header's bytes. UsageError for a frame that is none, after those before it were sent.
        """
        n: cython.Py_ssize_t = start
        count: cython.Py_ssize_t = len(frames)
        if self.reclaim() < 0:
            raise self.error()
        try:
            while n < count and self.put_object(frames[n], checker) == 0:
                n += 1
        finally:
            self.channel.publish_and_kick()
        return n

    def poll(self) -> int:
        """Take back what the device is done with; how many frames it still has."""
        if self.reclaim() < 0:
            raise self.error()
        return self.queue.outstanding

    def error(self) -> Exception:
        """What the device did wrong."""
        return self.queue.fault_error()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def reclaim(self) -> cython.int:
        """Take back what the device is done with."""
        completions = cython.declare(Completion[64])
        i: cython.int
        total: cython.int = 0
        while True:
            count: cython.int = self.queue.reap(completions, 64)
            if count <= 0:
                return count if count < 0 else total
            for i in range(count):
                self.release(completions[i].token)
            total += count

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def release(self, slot: uint32_t) -> cython.void:
        """The slots of a frame are free again."""
        while slot != LAST:
            following: uint32_t = self.links[slot]
            self.links[slot] = self.free
            self.free = slot
            self.free_count += 1
            slot = following

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def put_object(self, frame: object, checker: object) -> cython.int:
        """Offer a frame as Python has it: a buffer, or a buffer and a header. 0, or 1 without room."""
        view: Py_buffer
        header: bytes = None
        head: cython.pointer[cython.const[uint8_t]] = cython.NULL
        if isinstance(frame, tuple):
            data, request = frame
            header = checker(request, len(data))
            frame = data
        elif isinstance(frame, Frame):
            header = checker(frame, len(frame))
        if header is not None:
            if len(header) < self.header_size:
                raise UsageError(f"a header of {len(header)} bytes, where {self.header_size} are needed")
            head = cython.cast(cython.pointer[cython.const[uint8_t]], cython.cast(cython.p_char, header))
        PyObject_GetBuffer(frame, cython.address(view), PyBUF_SIMPLE)
        try:
            if not SHORTEST_FRAME <= view.len <= self.longest:
                raise UsageError(
                    f"a frame of {view.len} bytes: {SHORTEST_FRAME} to {self.longest} can be sent"
                )
            return 0 if self.put(cython.cast(cython.p_char, view.buf), view.len, head) == 0 else 1
        finally:
            PyBuffer_Release(cython.address(view))

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def put(
        self,
        data: cython.pointer[cython.const[cython.char]],
        length: cython.size_t,
        header: cython.pointer[cython.const[uint8_t]],
    ) -> cython.int:
        """Copy a frame into slots and offer them as one chain."""
        places = cython.declare(Buffer[MOST_SLOTS])
        i: cython.int
        count: cython.int = (length + self.header_size + self.slot_size - 1) // self.slot_size
        if cython.cast(uint32_t, count) > self.free_count:
            return -ENOSPC
        slot: uint32_t = self.free
        first: uint32_t = slot
        used: cython.size_t = self.header_size
        for i in range(count):
            target: cython.p_char = self.bytes + cython.cast(cython.size_t, slot) * self.stride
            part: cython.size_t = min(length, self.slot_size - used)
            memcpy(target + used, data, part)
            places[i].address = self.address + cython.cast(uint64_t, slot) * self.stride
            places[i].length = used + part
            data += part
            length -= part
            used = 0
            last: uint32_t = slot
            slot = self.links[slot]
        self.write_header(self.bytes + cython.cast(cython.size_t, first) * self.stride, header)
        # A failure changes nothing here: the slots are still where they were in the free list.
        status: cython.int = self.queue.add(places, count, 0, first)
        if status != 0:
            return status
        self.links[last] = LAST
        self.free = slot
        self.free_count -= count
        self.frames += 1
        for i in range(count):
            self.total_bytes += places[i].length
        self.total_bytes -= self.header_size
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def write_header(
        self, target: cython.p_char, header: cython.pointer[cython.const[uint8_t]]
    ) -> cython.void:
        """The caller's, or one that asks for nothing."""
        i: uint32_t
        if header != cython.NULL:
            memcpy(target, header, self.header_size)
        else:
            for i in range(self.header_size):
                target[i] = 0
