"""A receive queue's buffers: posted, filled by the device, lent to Python as frames, posted again.

A frame in one buffer is shown where the device put it; the buffer is posted again once the last view of it is
gone. A frame that spans several is copied together. While frames hold half of the buffers the next ones are
copied too, so that a program that keeps its frames does not stop the queue.
"""

import cython
from cython.cimports.cpython.buffer import PyBuffer_FillInfo
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy
from cython.cimports.virtio.drivers.channel import Channel
from cython.cimports.virtio.drivers.net.receiver import (
    FRAME_BUFFERS,
    FRAME_SHORT,
    HEADER_NUM_BUFFERS,
    LONGEST_HEADER,
    REAPED,
)
from cython.cimports.virtio.memory.atomic import RELAXED, load_u16
from cython.cimports.virtio.virtqueue.queue import Buffer, Completion

from virtio.drivers.net.slots import LINE, memory_needed, stride
from virtio.errors import FrameBuffersError, FrameHeaderError
from virtio.spec import net as spec

__all__ = ["Frame", "Receiver"]


@cython.cclass
class Frame:
    """A received frame: its bytes, without a copy where possible, and the header that came with it.

    Whatever takes a buffer takes a frame: ``bytes(frame)``, ``memoryview(frame)``, ``file.write(frame)``. The
    memory goes back to the device once neither the frame nor a view of it is held.
    """

    def __init__(self) -> None:
        raise TypeError("frames are received")

    def __dealloc__(self) -> None:
        if self.receiver is not None:
            self.receiver.give_back(self.slot)

    def __getbuffer__(self, buffer: cython.pointer[Py_buffer], flags: cython.int):
        PyBuffer_FillInfo(buffer, self, self.start, self.length, False, flags)

    def __len__(self) -> cython.Py_ssize_t:
        return self.length

    def __repr__(self) -> str:
        return f"<Frame of {self.length} bytes from pair {self.pair}>"

    @property
    def data(self) -> memoryview:
        """The frame's bytes, from the destination address on."""
        return memoryview(self)

    @property
    def header(self) -> spec.Hdr:
        """What the device said of the frame: checksum, segmentation, hash."""
        raw: bytes = self.head[: self.head_size]
        return spec.Hdr.unpack(raw.ljust(spec.Hdr.SIZE, b"\0"))


@cython.cclass
class Receiver:
    """The buffers of one receive queue; ``buffer`` (of the arena) is cut into as many as the queue holds.

    One thread at a time; giving frames back may happen in any.
    """

    def __init__(
        self, channel: Channel, buffer, *, slot_size: int, header_size: int, mergeable: bool, pair: int = 0
    ) -> None:
        if self.free != cython.NULL:
            raise TypeError("made once")
        if not header_size <= LONGEST_HEADER or not header_size < slot_size:
            raise ValueError(f"a header of {header_size} bytes in buffers of {slot_size}")
        if len(buffer.view) < memory_needed(channel.queue.size, slot_size):
            raise ValueError("too little memory for the queue")
        view: cython.uchar[::1] = buffer.view
        # Frames begin with a cache line, as with most drivers: a device has fewer pieces of lines to copy.
        lead: cython.uint = LINE - header_size % LINE
        self.channel = channel
        self.queue = channel.queue
        self.buffer = buffer
        self.bytes = cython.cast(cython.p_char, cython.address(view[0])) + lead
        self.address = buffer.address + lead
        self.slots = channel.queue.size
        self.slot_size = slot_size
        self.stride = stride(slot_size)
        self.header_size = header_size
        self.mergeable = mergeable
        self.pair = pair
        self.allocate()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def allocate(self) -> cython.int:
        """Make our own records, with every slot free."""
        i: uint32_t
        self.free = cython.cast(cython.pointer[uint32_t], calloc(self.slots, cython.sizeof(uint32_t)))
        self.finished = cython.cast(cython.pointer[Completion], calloc(self.slots, cython.sizeof(Completion)))
        if self.free == cython.NULL or self.finished == cython.NULL:
            raise MemoryError
        for i in range(self.slots):
            self.free[i] = self.slots - 1 - i
        self.free_count = self.slots
        return 0

    def __dealloc__(self) -> None:
        free(self.free)
        free(self.finished)

    # -- posting

    def fill(self) -> None:
        """Post every free buffer, and ring the device if it wants to know."""
        if self.post_free() > 0:
            self.channel.publish_and_kick()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def post_free(self) -> cython.int:
        """Post every free slot."""
        place: Buffer
        count: cython.int = 0
        place.length = self.slot_size
        while self.free_count:
            slot: uint32_t = self.free[self.free_count - 1]
            place.address = self.address + cython.cast(uint64_t, slot) * self.stride
            if self.queue.add(cython.address(place), 0, 1, slot) != 0:
                break
            self.free_count -= 1
            count += 1
        return count

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def recycle(self, slot: uint32_t) -> cython.void:
        """The slot may be posted again."""
        self.free[self.free_count] = slot
        self.free_count += 1

    @cython.cfunc
    def give_back(self, slot: uint32_t) -> cython.void:
        """A frame was let go of."""
        self.recycle(slot)
        self.lent -= 1
        if self.retired and self.lent == 0:
            self.buffer.free()

    def retire(self) -> None:
        """The queue is gone: free the memory, once no frame shows any of it."""
        self.retired = True
        if self.lent == 0:
            self.buffer.free()

    # -- frames

    def burst(self, limit: int) -> list:
        """Up to ``limit`` frames that have come; none if none has. FrameHeaderError, FrameBuffersError or
        what the ring makes of it if the device breaks the rules, for this and every later call.
        """
        frames: list = []
        buffers: cython.int = 0
        while len(frames) < limit:
            buffers = self.next_frame()
            if buffers <= 0:
                break
            frames.append(self.make_frame(buffers))
        if buffers < 0 and not frames:
            raise self.error()
        self.fill()
        return frames

    def error(self) -> Exception:
        """What the device did wrong."""
        if self.fault == FRAME_SHORT:
            return FrameHeaderError(
                f"a frame of {self.fault_detail} bytes is shorter than its header of {self.header_size}"
            )
        if self.fault == FRAME_BUFFERS:
            return FrameBuffersError(
                f"a frame in {self.fault_detail} buffers, of which the queue has {self.slots}"
            )
        return self.queue.fault_error()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def wrong(self, fault: cython.int, detail: uint64_t) -> cython.int:
        """Remember why no frame is taken any more."""
        self.fault = fault
        self.fault_detail = detail
        return fault

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def gather(self) -> cython.int:
        """Reap more. How many are there, or a fault."""
        if self.first == self.last:
            self.first = 0
            self.last = 0
        i: uint32_t
        if self.last + REAPED > self.slots and self.first:
            for i in range(self.last - self.first):
                self.finished[i] = self.finished[self.first + i]
            self.last -= self.first
            self.first = 0
        room: cython.int = min(self.slots - self.last, REAPED)
        count: cython.int = self.queue.reap(self.finished + self.last, room)
        if count < 0:
            return self.wrong(count, 0)
        self.last += count
        return self.last - self.first

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def next_frame(self) -> cython.int:
        """How many buffers the next frame has, once all of them are there."""
        buffers: uint16_t = 1
        if self.fault != 0:
            return self.fault
        if self.first == self.last and self.gather() <= 0:
            return self.fault
        head: cython.pointer[Completion] = cython.address(self.finished[self.first])
        if head.written < self.header_size:
            return self.wrong(FRAME_SHORT, head.written)
        if not self.mergeable:
            return 1
        place: cython.p_char = self.slot_bytes(head.token) + HEADER_NUM_BUFFERS
        buffers = load_u16(cython.cast(cython.pointer[uint16_t], place), RELAXED)
        if buffers == 0 or buffers > self.slots:
            return self.wrong(FRAME_BUFFERS, buffers)
        while self.last - self.first < buffers:
            before: uint32_t = self.last - self.first
            if self.gather() < 0:
                return self.fault
            if self.last - self.first == before:
                return 0
        return buffers

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def slot_bytes(self, slot: uint32_t) -> cython.p_char:
        """Where a slot is in this process."""
        return self.bytes + cython.cast(cython.size_t, slot) * self.stride

    @cython.cfunc
    def make_frame(self, buffers: cython.int) -> Frame:
        """Take the next frame, of so many buffers."""
        i: cython.int
        frame: Frame = Frame.__new__(Frame)
        head: cython.pointer[Completion] = cython.address(self.finished[self.first])
        slot: uint32_t = head.token
        frame.pair = self.pair
        frame.head_size = self.header_size
        memcpy(frame.head, self.slot_bytes(slot), self.header_size)
        for i in range(buffers):
            frame.length += self.finished[self.first + i].written
        frame.length -= self.header_size
        if buffers == 1 and self.lent < self.slots // 2:
            frame.receiver = self
            frame.slot = slot
            frame.start = self.slot_bytes(slot) + self.header_size
            self.lent += 1
        else:
            frame.storage = PyByteArray_FromStringAndSize(cython.NULL, frame.length)
            frame.start = PyByteArray_AS_STRING(frame.storage)
            self.join(frame.start, buffers)
            self.copied += 1
        self.first += buffers
        self.frames += 1
        self.total_bytes += frame.length
        return frame

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def join(self, target: cython.p_char, buffers: cython.int) -> cython.void:
        """Copy a frame out of its slots, which are free then."""
        i: cython.int
        skip: uint32_t = self.header_size
        for i in range(buffers):
            part: cython.pointer[Completion] = cython.address(self.finished[self.first + i])
            memcpy(target, self.slot_bytes(part.token) + skip, part.written - skip)
            target += part.written - skip
            skip = 0
            self.recycle(part.token)
