"""Requests on several queues at once, of which each answer is known beforehand.

One thread drives all queues, so that one table of `Sectors` does for them. Requests are of random kind,
size and place; all queues use the whole span. Data lies in one or two buffers, cut and aligned anyhow.
Flushes come in bursts, so that some overlap.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import ENOSPC
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.virtio.drivers.channel import (
    CHANNEL_INTERRUPTED,
    CHANNEL_WOKEN,
    Channel,
    monotonic_ns,
    thread_cpu_ns,
)
from cython.cimports.virtio.memory.atomic import cpu_pause
from cython.cimports.virtio.testing.integrity.generator import (
    BURST,
    F_UNMAP,
    FEW_SECTORS,
    HEAD,
    MANY_SECTORS,
    MOST_QUEUES,
    MOST_SECTORS,
    NO_STATUS,
    REAP,
    SHIFTS,
    SOME_SECTORS,
    STATUS_AT,
    T_FLUSH,
    T_WRITE_ZEROES,
    Head,
)
from cython.cimports.virtio.testing.integrity.pattern import SECTOR, ZEROES, mix
from cython.cimports.virtio.testing.integrity.sectors import T_DISCARD, T_IN, T_OUT, Sectors, Slot
from cython.cimports.virtio.virtqueue.queue import Buffer, Completion

__all__ = ["HEAD_SIZE", "LARGEST", "Generator"]

HEAD_SIZE = HEAD
LARGEST = MOST_SECTORS * SECTOR  # bytes that a request can have

SPIN = cython.declare(cython.int, 200)  # looks at all queues before sleeping
NAP = cython.declare(int64_t, 200_000)  # nanoseconds on one queue before the others are looked at

# What `turn` returns.
_CONTINUE = cython.declare(cython.int, 0)
_PAUSE = cython.declare(cython.int, 1)
_FAULT = cython.declare(cython.int, -1)


@cython.cclass
class Generator:
    """Drives ``channels`` on the first ``span`` sectors, all of which read as zeroes at first.

    ``largest`` bytes, a multiple of 512 up to LARGEST, are in the largest requests. ``heads`` and ``data``
    are (device address, memoryview) of HEAD_SIZE and ``largest`` bytes for each of ``depth`` requests on
    each channel. ``read_percent`` of the requests with data are reads; discards and
    write-zeroes are made if the device has them.
    """

    def __init__(
        self,
        channels: list[Channel],
        heads,
        data,
        *,
        depth: int,
        span: int,
        largest: int = LARGEST,
        read_percent: int = 50,
        discards: bool = False,
        zeroes: bool = False,
        seed: int = 1,
    ) -> None:
        if self.slots != cython.NULL:
            raise TypeError("made once")
        most: int = largest // SECTOR
        if not (0 < len(channels) <= MOST_QUEUES and depth > 0 and most in range(1, MOST_SECTORS + 1)):
            raise ValueError(f"{len(channels)} queues, depth {depth}, requests of {largest} bytes")
        if span not in range(most, 1 << 32):
            raise ValueError(f"{span} sectors")
        count: int = len(channels) * depth
        if len(heads[1]) < count * HEAD or len(data[1]) < count * largest:
            raise ValueError("too little memory for so many requests")
        self.lent = list(channels)
        self.queues = len(channels)
        for i in range(self.queues):
            self.channels[i] = cython.cast(cython.p_void, cython.cast(Channel, self.lent[i]))
        self.depth, self.span, self.most = depth, span, most
        self.read_percent = read_percent
        self.discards, self.zeroes = discards, zeroes
        self.state = seed
        self.sectors = Sectors(span, mix(seed))
        self.next_generation = ZEROES
        self.broken = -1
        self.memory = (heads[1], data[1])
        self.place(heads, data)

    def __dealloc__(self) -> None:
        free(self.slots)

    def place(self, heads, data):
        """Note where each request's head and data are."""
        size: uint64_t = cython.cast(uint64_t, self.most) * SECTOR
        self.slots = cython.cast(cython.pointer[Slot], calloc(self.queues * self.depth, cython.sizeof(Slot)))
        if self.slots == cython.NULL:
            raise MemoryError
        head_bytes: cython.uchar[::1] = heads[1]
        data_bytes: cython.uchar[::1] = data[1]
        i: cython.int
        for i in range(self.queues * self.depth):
            slot = cython.address(self.slots[i])
            slot.head = cython.cast(cython.p_char, cython.address(head_bytes[i * HEAD]))
            slot.data = cython.cast(cython.p_char, cython.address(data_bytes[i * size]))
            slot.head_address = heads[0] + i * HEAD
            slot.data_address = data[0] + i * size
        return 0

    # The face.

    def allow(self, requests: int) -> None:
        """How many more requests may be submitted; none at first."""
        self.left = requests

    def sweep(self) -> None:
        """From now on read everything once, in order. ValueError while requests are in flight."""
        if self.in_flight:
            raise ValueError("requests are in flight")
        self.sweeping, self.position = True, 0
        self.left = (self.span + self.most - 1) // self.most

    def mingle(self, flush_every: int, range_every: int) -> None:
        """From now on mix all kinds: one in so many is a flush, a discard or write-zeroes (0: none)."""
        self.sweeping, self.left = False, 0
        self.flush_every, self.range_every = flush_every, range_every

    @property
    def kinds(self) -> dict[int, int]:
        """Completed requests by type (virtio 1.4, 5.2.6)."""
        return {kind: self.kind_counts[kind] for kind in range(16) if self.kind_counts[kind]}

    @property
    def table(self) -> Sectors:
        """What is known of each sector, and what was found."""
        return self.sectors

    def run(self, nanoseconds: int) -> bool:
        """Go on for so long, or until a fault, a wake-up, a signal, or until all that was allowed is done.

        Requests stay in flight across calls. False if the device broke the ring of queue `broken`.
        """
        cpu: int64_t = thread_cpu_ns()
        until: int64_t = monotonic_ns() + cython.cast(int64_t, nanoseconds)
        state: cython.int
        with cython.nogil:
            state = self.fill()
            while state == _CONTINUE:
                state = self.turn(until)
        self.cpu_ns += thread_cpu_ns() - cpu
        return state != _FAULT

    # One turn.

    def turn(self, until):
        """Reap all queues, and start as many requests again."""
        queue: cython.int
        _: cython.int
        count: cython.int
        got: cython.int
        for _ in range(SPIN):
            got = 0
            for queue in range(self.queues):
                count = self.reap(queue)
                if count < 0:
                    return _FAULT
                got += count
            if got:
                if self.left and self.fill() < 0:
                    return _FAULT
                return _PAUSE if monotonic_ns() >= until else _CONTINUE
            if self.in_flight == 0:
                return _PAUSE
            cpu_pause()
        if self.idle() or monotonic_ns() >= until:
            return _PAUSE
        return _CONTINUE

    def idle(self):
        """Nothing finished: sleep on one queue that has something, the next one the next time."""
        _: cython.int
        result: cython.int
        for _ in range(self.queues * self.depth):
            self.turn_of = (self.turn_of + 1) % (self.queues * self.depth)
            if self.slots[self.turn_of].busy:
                break
        result = cython.cast(Channel, self.channels[self.turn_of // self.depth]).wait_finished(NAP)
        return result in (CHANNEL_WOKEN, CHANNEL_INTERRUPTED)

    def reap(self, queue):
        """How many finished on one queue; -1 if its ring is broken."""
        completions = cython.declare(Completion[64])
        i: cython.int
        count: cython.int = cython.cast(Channel, self.channels[queue]).queue.reap(completions, REAP)
        if count < 0:
            self.broken = queue
            return -1
        for i in range(count):
            self.finish(cython.address(self.slots[completions[i].token]))
        return count

    def fill(self):
        """Start what may be started. -1 if a ring does not take it."""
        i: cython.int
        for i in range(self.queues * self.depth):
            if self.left and not self.slots[i].busy and self.start(i) < 0:
                self.broken = i // self.depth
                return _FAULT
        for i in range(self.queues):
            cython.cast(Channel, self.channels[i]).publish_and_kick()
        return _CONTINUE

    # Choosing.

    def random_number(self):
        """The next of splitmix64."""
        self.state += cython.cast(uint64_t, 0x9E3779B97F4A7C15)
        return mix(self.state)

    def choose_kind(self, dice):
        """What to do next."""
        if self.flushes_due:
            self.flushes_due -= 1
            return T_FLUSH
        if self.flush_every and dice % self.flush_every == 0:
            self.flushes_due = (dice >> 40) % BURST
            return T_FLUSH
        dice >>= 20
        if self.range_every and (self.discards or self.zeroes) and dice % self.range_every == 0:
            dice >>= 20
            return T_DISCARD if self.discards and (dice & 1 or not self.zeroes) else T_WRITE_ZEROES
        return T_IN if self.random_number() % 100 < self.read_percent else T_OUT

    def choose(self, slot):
        """Decide on a request and lock its sectors. False if that did not succeed soon."""
        _: cython.int
        dice: uint64_t
        most: uint64_t
        slot.kind = self.choose_kind(self.random_number())
        if slot.kind == T_FLUSH:
            slot.sector = 0
            slot.sectors = 0
            return True
        for _ in range(32):
            dice = self.random_number()
            most = self.choose_most(dice & 255)
            slot.sectors = 1 + (dice >> 8) % most
            slot.sector = self.random_number() % (self.span - slot.sectors + 1)
            # All but the largest requests leave a sector of their memory free.
            slot.shift = 8 * ((dice >> 48) % SHIFTS) if slot.sectors < self.most else 0
            if self.sectors.lock(slot):
                return True
        return False

    def choose_most(self, dice):
        """Sectors that a request may have: mostly few."""
        most: uint64_t = self.most
        if dice >= 64:
            most = FEW_SECTORS
        elif dice >= 16:
            most = SOME_SECTORS
        elif dice >= 1:
            most = MANY_SECTORS
        return most if most < self.most else self.most

    def choose_next(self, slot):
        """The sweep's next read."""
        slot.kind = T_IN
        slot.sector = self.position
        slot.shift = 0
        slot.sectors = self.most if self.span - self.position > self.most else self.span - self.position
        self.position += slot.sectors
        return self.sectors.lock(slot)

    # Submitting.

    def start(self, index):
        """Put a request on its ring. -1 if the ring does not take it."""
        slot: cython.pointer[Slot] = cython.address(self.slots[index])
        status: cython.int
        if not (self.choose_next(slot) if self.sweeping else self.choose(slot)):
            return 0  # the slot rests until the next turn
        self.prepare(slot)
        status = self.submit(slot, index)
        if status < 0:
            self.sectors.unlock(slot)
            if self.sweeping:
                self.position -= slot.sectors
            return 0 if status == -ENOSPC else -1
        slot.busy = 1
        self.left -= 1
        self.in_flight += 1
        return 0

    def submit(self, slot, index):
        buffers = cython.declare(Buffer[4])
        count: cython.int = self.describe(slot, buffers)
        writable: cython.int = count - 1 if slot.kind == T_IN else 1
        return cython.cast(Channel, self.channels[index // self.depth]).queue.add(
            buffers, count - writable, writable, index
        )

    def prepare(self, slot):
        """Write the head, and the data of a write."""
        head: cython.pointer[Head] = cython.cast(cython.pointer[Head], slot.head)
        data: cython.bint = slot.kind == T_IN or slot.kind == T_OUT
        head.type = slot.kind
        head.reserved = 0
        head.sector = slot.sector if data else 0
        head.range_sector = slot.sector
        head.range_sectors = slot.sectors
        head.range_flags = F_UNMAP if slot.kind == T_WRITE_ZEROES and self.random_number() & 1 else 0
        slot.head[STATUS_AT] = cython.cast(cython.char, NO_STATUS)
        slot.generation = ZEROES
        if slot.kind == T_OUT:
            self.next_generation += 1
            slot.generation = self.next_generation
            self.sectors.fill(slot)
        elif slot.kind == T_IN:
            self.sectors.blank(slot)

    def describe(self, slot, buffers):
        """The request's buffers; the status comes last. Their number."""
        count: cython.int = 1
        length: uint64_t = cython.cast(uint64_t, slot.sectors) * SECTOR
        first: uint64_t
        buffers[0].address = slot.head_address
        buffers[0].length = 16
        if slot.kind == T_DISCARD or slot.kind == T_WRITE_ZEROES:
            buffers[0].length = cython.sizeof(Head)
        elif slot.kind != T_FLUSH:
            # Cut anywhere, or not at all.
            first = self.random_number() % (2 * length)
            if first == 0 or first >= length:
                first = length
            buffers[1].address = slot.data_address + slot.shift
            buffers[1].length = first
            buffers[2].address = buffers[1].address + first
            buffers[2].length = length - first
            count = 2 if first == length else 3
        buffers[count].address = slot.head_address + STATUS_AT
        buffers[count].length = 1
        return count + 1

    # Finishing.

    def finish(self, slot):
        """Account for a finished request."""
        status: cython.int = cython.cast(cython.uchar, slot.head[STATUS_AT])
        self.in_flight -= 1
        self.completed += 1
        self.kind_counts[slot.kind & 15] += 1
        slot.busy = 0
        if status != 0:
            self.errors += 1
            self.last_status = status
        if slot.kind != T_IN:
            self.sectors.record(slot, status == 0)
        elif status == 0:
            self.sectors.check(slot)
        self.sectors.unlock(slot)
