"""A load generator for network devices: one pair of queues, one thread, no GIL.

`NetLoad` works on the buffers of a pair's `Receiver` and `Transmitter`: it sends one frame over and over,
counts and drops what comes, or sends back what comes from the buffer it came in. `virtio.drivers.net.load` is
its face.
"""

import cython
from cython.cimports.libc.stdint import int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.virtio.drivers.channel import (
    CHANNEL_INTERRUPTED,
    CHANNEL_WOKEN,
    monotonic_ns,
    thread_cpu_ns,
)
from cython.cimports.virtio.drivers.net.receiver import (
    FRAME_BUFFERS,
    FRAME_SHORT,
    HEADER_NUM_BUFFERS,
    Receiver,
)
from cython.cimports.virtio.drivers.net.transmitter import LAST, Transmitter
from cython.cimports.virtio.drivers.netload import ADDRESSES, BATCH, ECHOED, LOOKS, PAUSES
from cython.cimports.virtio.memory.atomic import RELAXED, cpu_pause, load_u16, prefetch, prefetch_write
from cython.cimports.virtio.virtqueue.queue import Buffer, Completion

__all__ = ["NetLoad"]

# What `turn` returns.
_CONTINUE = cython.declare(cython.int, 0)
_PAUSE = cython.declare(cython.int, 1)
_FAULT = cython.declare(cython.int, -1)


@cython.cclass
class NetLoad:
    """One generator. ``frame`` is what is sent, at most a slot long; None for none.

    ``receiving`` counts and drops what comes; ``echoing`` sends it back, with ``swapping`` after exchanging
    its addresses. ``stamping`` writes a growing number over the first eight bytes behind the Ethernet header.
    """

    def __init__(
        self,
        receiver: Receiver,
        transmitter: Transmitter,
        frame: bytes | None = None,
        *,
        receiving: bool = False,
        echoing: bool = False,
        swapping: bool = False,
        stamping: bool = False,
        polling: bool = False,
    ) -> None:
        if frame is not None and not 22 <= len(frame) <= transmitter.slot_size - transmitter.header_size:
            raise ValueError(f"a frame of {len(frame)} bytes in slots of {transmitter.slot_size}")
        self.receiver = receiver
        self.transmitter = transmitter
        self.incoming = receiver.queue
        self.outgoing = transmitter.queue
        self.receiving = receiving or echoing
        self.echoing, self.swapping = echoing, swapping
        self.stamping, self.polling = stamping, polling
        if frame is not None:
            self.flooding = True
            self.fill(frame)

    def fill(self, frame: bytes) -> None:
        """Write the frame into every free slot, behind a header that asks for nothing."""
        slot: uint32_t = self.transmitter.free
        head: uint32_t = self.transmitter.header_size
        self.length = head + len(frame)
        while slot != LAST:
            place: cython.p_char = self.transmitter.bytes + (
                cython.cast(cython.size_t, slot) * self.transmitter.stride
            )
            memset(place, 0, head)
            memcpy(place + head, cython.cast(cython.p_char, frame), self.length - head)
            slot = self.transmitter.links[slot]

    @property
    def outstanding(self) -> int:
        """Frames that the device was given and has not taken."""
        return self.outgoing.outstanding

    @property
    def fault(self) -> int:
        """What the device did wrong, else 0."""
        return self.fault_code

    def allow(self, frames: int) -> None:
        """How many more frames may be sent; none at first."""
        self.left = frames

    def stop(self) -> None:
        """Take no more of what comes; what was sent is still collected."""
        self.receiving = False
        self.echoing = False

    def run(self, nanoseconds: int) -> bool:
        """Go on for so long, or until a fault, a wake-up, a signal, or until all that was allowed is sent.

        False if the device broke the rules.
        """
        begin: int64_t = monotonic_ns()
        cpu: int64_t = thread_cpu_ns()
        until: int64_t = begin + cython.cast(int64_t, nanoseconds)
        state: cython.int = _CONTINUE
        with cython.nogil:
            while state == _CONTINUE:
                state = self.turn(until)
        self.cpu_ns += thread_cpu_ns() - cpu
        self.elapsed_ns += monotonic_ns() - begin
        return state != _FAULT

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def turn(self, until: int64_t) -> cython.int:
        """One batch each way.

        What was sent is taken back once it is half of the queue, or there is nothing else to do: looking
        for it takes the device a cache line that it writes.
        """
        moved: cython.int = 0
        count: cython.int
        late: cython.bint = self.outgoing.outstanding >= self.outgoing.size // 2
        if late:
            count = self.collect()
            if count < 0:
                return _FAULT
            moved += count
        if self.flooding and self.left:
            count = self.flood()
            if count < 0:
                return _FAULT
            moved += count
        if self.receiving:
            count = self.receive()
            if count < 0:
                return _FAULT
            moved += count
        if moved == 0 and not late:
            moved = self.collect()
            if moved < 0:
                return _FAULT
        if not self.left and not self.receiving and self.outgoing.outstanding == 0:
            return _PAUSE
        if moved == 0:
            return self.idle(until)
        return _PAUSE if monotonic_ns() >= until else _CONTINUE

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def idle(self, until: int64_t) -> cython.int:
        """Nothing to do: spin a little, or sleep."""
        _: cython.int
        result: cython.int
        if self.polling:
            for _ in range(LOOKS):
                if (self.receiving and self.incoming.finished()) or self.outgoing.finished():
                    return _CONTINUE
                for _ in range(PAUSES):
                    cpu_pause()
            return _PAUSE if monotonic_ns() >= until else _CONTINUE
        left: int64_t = max(until - monotonic_ns(), 0)
        if self.receiving:
            # What was sent is seldom waited for; it is looked at soon enough.
            if self.outgoing.outstanding:
                left = min(left, 1000000)
            result = self.receiver.channel.wait_finished(left)
        else:
            result = self.transmitter.channel.wait_finished(left)
        if result in (CHANNEL_WOKEN, CHANNEL_INTERRUPTED):
            return _PAUSE
        return _PAUSE if monotonic_ns() >= until else _CONTINUE

    # -- sending

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def collect(self) -> cython.int:
        """Take back what the device sent. Number of frames or a fault."""
        completions = cython.declare(Completion[BATCH])
        i: cython.int
        returned: cython.int = 0
        if self.outgoing.outstanding == 0:
            return 0
        count: cython.int = self.outgoing.reap(completions, BATCH)
        if count < 0:
            self.fault_code = count
            return count
        for i in range(count):
            if completions[i].token & ECHOED:
                returned += 1
                if self.repost(cython.cast(uint32_t, completions[i].token & (ECHOED - 1))) != 0:
                    return -1
            else:
                self.transmitter.release(completions[i].token)
        if returned:
            self.receiver.channel.publish_and_kick()
        return count

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def flood(self) -> cython.int:
        """Send as many frames as there are free slots, a batch at most."""
        count: cython.int = 0
        slot: uint32_t
        while count < BATCH and self.left and self.transmitter.free_count:
            slot = self.transmitter.free
            if self.send_slot(slot) != 0:
                break
            self.transmitter.free = self.transmitter.links[slot]
            self.transmitter.links[slot] = LAST
            self.transmitter.free_count -= 1
            self.left -= 1
            self.sent += 1
            count += 1
        if count:
            self.transmitter.channel.publish_and_kick()
        return count

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def send_slot(self, slot: uint32_t) -> cython.int:
        """Offer the frame in a slot."""
        place: Buffer
        offset: uint64_t = cython.cast(uint64_t, slot) * self.transmitter.stride
        if self.stamping:
            memcpy(
                self.transmitter.bytes + offset + self.transmitter.header_size + 14,
                cython.address(self.sent),
                8,
            )
        place.address = self.transmitter.address + offset
        place.length = self.length
        return self.outgoing.add(cython.address(place), 1, 0, slot)

    # -- receiving

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def receive(self) -> cython.int:
        """Take a batch of what came. Number of buffers or a fault."""
        completions = cython.declare(Completion[BATCH])
        i: cython.int
        wanted: cython.int
        echoed: uint32_t = self.outgoing.outstanding
        count: cython.int = self.incoming.reap(completions, BATCH)
        if count < 0:
            self.fault_code = count
            return count
        for i in range(count):
            if self.echoing:
                prefetch_write(self.receiver.slot_bytes(completions[i].token))
            elif self.receiver.mergeable:
                prefetch(self.receiver.slot_bytes(completions[i].token))
        for i in range(count):
            wanted = self.span(cython.address(completions[i]))
            if wanted < 0:
                return -1
            if not self.echoing or wanted != 1 or self.echo(cython.address(completions[i])) != 0:
                if self.echoing:
                    self.dropped += 1 if wanted else 0
                if self.repost(completions[i].token) != 0:
                    return -1
        if self.outgoing.outstanding != echoed:
            self.transmitter.channel.publish_and_kick()
        if count:
            self.receiver.channel.publish_and_kick()
        return count

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def span(self, part: cython.pointer[cython.const[Completion]]) -> cython.int:
        """Count a buffer. How many buffers its frame has; 0 if it goes on with one; a fault."""
        buffers: uint16_t = 1
        if self.skipped:
            self.skipped -= 1
            self.received_bytes += part.written
            return 0
        if part.written < self.receiver.header_size:
            self.fault_code = self.receiver.wrong(FRAME_SHORT, part.written)
            return -1
        if self.receiver.mergeable:
            place: cython.p_char = self.receiver.slot_bytes(part.token) + HEADER_NUM_BUFFERS
            buffers = load_u16(cython.cast(cython.pointer[uint16_t], place), RELAXED)
            if buffers == 0 or buffers > self.receiver.slots:
                self.fault_code = self.receiver.wrong(FRAME_BUFFERS, buffers)
                return -1
            self.skipped = buffers - 1
        self.received += 1
        self.received_bytes += part.written - self.receiver.header_size
        return buffers

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def repost(self, slot: uint32_t) -> cython.int:
        """Give a buffer to the receive queue again."""
        place: Buffer
        place.address = self.receiver.address + cython.cast(uint64_t, slot) * self.receiver.stride
        place.length = self.receiver.slot_size
        return self.incoming.add(cython.address(place), 0, 1, slot)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def echo(self, part: cython.pointer[cython.const[Completion]]) -> cython.int:
        """Send a frame back from where it is. 0, or no room."""
        place: Buffer
        swapped = cython.declare(uint8_t[ADDRESSES])
        head: cython.p_char = self.receiver.slot_bytes(part.token)
        size: uint32_t = self.receiver.header_size
        if part.written < size + ADDRESSES:
            return -1
        memset(head, 0, size)
        if self.swapping:
            memcpy(swapped, head + size, ADDRESSES)
            memcpy(head + size, cython.address(swapped[6]), 6)
            memcpy(head + size + 6, swapped, 6)
        place.address = self.receiver.address + cython.cast(uint64_t, part.token) * self.receiver.stride
        place.length = part.written
        if self.outgoing.add(cython.address(place), 1, 0, part.token | ECHOED) != 0:
            return -1
        self.sent += 1
        return 0
