"""Requests on several queues at once, of which each answer is known beforehand.

One thread drives all queues, so that one table of sectors does for them: each sector has a generation, which
says what must be read there, and a lock, which many reads or one change hold while in flight. Requests are of
random kind, size and place; all queues use the whole span. Data lies in one or two buffers.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import ENOSPC
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
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
    F_UNMAP,
    FEW_SECTORS,
    HEAD,
    MOST_QUEUES,
    MOST_SECTORS,
    NO_STATUS,
    REAP,
    SOME_SECTORS,
    STATUS_AT,
    T_DISCARD,
    T_FLUSH,
    T_IN,
    T_OUT,
    T_WRITE_ZEROES,
    WRITER,
    Head,
    Slot,
)
from cython.cimports.virtio.testing.integrity.pattern import (
    CORRUPT,
    FINE,
    MISPLACED,
    OR_ZEROES,
    SECTOR,
    STALE,
    UNKNOWN,
    ZEROES,
    fill_sector,
    judge,
    mix,
)
from cython.cimports.virtio.virtqueue.queue import Buffer, Completion

__all__ = ["HEAD_SIZE", "LARGEST", "Generator"]

HEAD_SIZE = HEAD
LARGEST = MOST_SECTORS * SECTOR

SPIN = cython.declare(cython.int, 200)  # looks at all queues before sleeping
NAP = cython.declare(int64_t, 200_000)  # nanoseconds on one queue before the others are looked at

# What `turn` returns.
_CONTINUE = cython.declare(cython.int, 0)
_PAUSE = cython.declare(cython.int, 1)
_FAULT = cython.declare(cython.int, -1)


@cython.cclass
class Generator:
    """Drives ``channels`` on the first ``span`` sectors, all of which read as zeroes at first.

    ``heads`` and ``data`` are (device address, memoryview) of HEAD_SIZE and LARGEST bytes for each of
    ``depth`` requests on each channel. ``read_percent`` of the requests with data are reads; discards and
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
        read_percent: int = 50,
        discards: bool = False,
        zeroes: bool = False,
        seed: int = 1,
    ) -> None:
        if self.slots != cython.NULL:
            raise TypeError("made once")
        if not (0 < len(channels) <= MOST_QUEUES and depth > 0 and span in range(MOST_SECTORS, 1 << 32)):
            raise ValueError(f"{len(channels)} queues, depth {depth}, {span} sectors")
        count: int = len(channels) * depth
        if len(heads[1]) < count * HEAD or len(data[1]) < count * LARGEST:
            raise ValueError("too little memory for so many requests")
        self.lent = list(channels)
        self.queues = len(channels)
        for i in range(self.queues):
            self.channels[i] = cython.cast(cython.p_void, cython.cast(Channel, self.lent[i]))
        self.depth, self.span = depth, span
        self.read_percent = read_percent
        self.discards, self.zeroes = discards, zeroes
        self.state = seed
        self.salt = mix(seed)
        self.next_generation = ZEROES
        self.broken = -1
        self.memory = (heads[1], data[1])
        self.allocate()
        self.place(heads, data)

    def __dealloc__(self) -> None:
        free(self.slots)
        free(self.generations)
        free(self.locks)

    def allocate(self):
        """Make our own records."""
        i: uint64_t
        self.slots = cython.cast(cython.pointer[Slot], calloc(self.queues * self.depth, cython.sizeof(Slot)))
        self.generations = cython.cast(cython.pointer[uint32_t], calloc(self.span, 4))
        self.locks = cython.cast(cython.pointer[cython.uchar], calloc(self.span, 1))
        if self.slots == cython.NULL or self.generations == cython.NULL or self.locks == cython.NULL:
            raise MemoryError
        for i in range(self.span):
            self.generations[i] = ZEROES
        return 0

    def place(self, heads, data):
        """Note where each request's head and data are."""
        head_bytes: cython.uchar[::1] = heads[1]
        data_bytes: cython.uchar[::1] = data[1]
        i: cython.int
        for i in range(self.queues * self.depth):
            slot = cython.address(self.slots[i])
            slot.head = cython.cast(cython.p_char, cython.address(head_bytes[i * HEAD]))
            slot.data = cython.cast(cython.p_char, cython.address(data_bytes[i * MOST_SECTORS * SECTOR]))
            slot.head_address = heads[0] + i * HEAD
            slot.data_address = data[0] + i * MOST_SECTORS * SECTOR
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
        self.left = (self.span + MOST_SECTORS - 1) // MOST_SECTORS

    def mingle(self, flush_every: int, range_every: int) -> None:
        """From now on mix all kinds: one in so many is a flush, a discard or write-zeroes (0: none)."""
        self.sweeping, self.left = False, 0
        self.flush_every, self.range_every = flush_every, range_every

    @property
    def kinds(self) -> dict[int, int]:
        """Completed requests by type (virtio 1.4, 5.2.6)."""
        return {kind: self.kind_counts[kind] for kind in range(16) if self.kind_counts[kind]}

    @property
    def wrong(self) -> dict[str, int]:
        """Sectors that were read and were not as they must be, by what was wrong with them."""
        names = {CORRUPT: "corrupt", STALE: "stale", MISPLACED: "misplaced"}
        return {name: self.verdicts[verdict] for verdict, name in names.items() if self.verdicts[verdict]}

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
        if self.flush_every and dice % self.flush_every == 0:
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
            most = FEW_SECTORS if dice & 15 > 3 else SOME_SECTORS if dice & 15 else MOST_SECTORS
            slot.sectors = 1 + (dice >> 4) % most
            slot.sector = self.random_number() % (self.span - slot.sectors + 1)
            if self.lock(slot):
                return True
        return False

    def choose_next(self, slot):
        """The sweep's next read."""
        slot.kind = T_IN
        slot.sector = self.position
        slot.sectors = MOST_SECTORS if self.span - self.position > MOST_SECTORS else self.span - self.position
        self.position += slot.sectors
        return self.lock(slot)

    def lock(self, slot):
        """Reads share sectors with reads, all else has them alone. False if they are not free."""
        i: uint64_t
        end: uint64_t = slot.sector + slot.sectors
        held: uint32_t
        for i in range(slot.sector, end):
            held = self.locks[i]
            if held >= WRITER - 1 or (held and slot.kind != T_IN):
                return False
        for i in range(slot.sector, end):
            self.locks[i] = self.locks[i] + 1 if slot.kind == T_IN else WRITER
        return True

    def unlock(self, slot):
        i: uint64_t
        for i in range(slot.sector, slot.sector + slot.sectors):
            self.locks[i] = self.locks[i] - 1 if slot.kind == T_IN else 0

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
            self.unlock(slot)
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
        i: uint64_t
        head: cython.pointer[Head] = cython.cast(cython.pointer[Head], slot.head)
        words: cython.pointer[uint64_t] = cython.cast(cython.pointer[uint64_t], slot.data)
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
            for i in range(slot.sectors):
                fill_sector(words + i * (SECTOR // 8), slot.sector + i, slot.generation, self.salt)
        elif slot.kind == T_IN:
            # What an earlier request left here must not be taken for an answer.
            for i in range(slot.sectors):
                words[i * (SECTOR // 8)] = ~cython.cast(uint64_t, 0)

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
            buffers[1].address = slot.data_address
            buffers[1].length = first
            buffers[2].address = slot.data_address + first
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
        if slot.kind == T_OUT:
            self.sectors_written += slot.sectors
        if slot.kind != T_IN:
            self.record(slot, status == 0)
        elif status == 0:
            self.check(slot)
        self.unlock(slot)

    def record(self, slot, succeeded):
        """What must be read from now on."""
        i: uint64_t
        for i in range(slot.sector, slot.sector + slot.sectors):
            if not succeeded:
                self.generations[i] = UNKNOWN
            elif slot.kind != T_DISCARD:
                self.generations[i] = slot.generation
            elif self.generations[i] > ZEROES:
                self.generations[i] |= cython.cast(uint32_t, OR_ZEROES)

    def check(self, slot):
        """Hold each sector that was read against what must be there."""
        i: uint64_t
        verdict: cython.int
        words: cython.pointer[uint64_t] = cython.cast(cython.pointer[uint64_t], slot.data)
        for i in range(slot.sectors):
            verdict = judge(
                words + i * (SECTOR // 8), slot.sector + i, self.generations[slot.sector + i], self.salt
            )
            if verdict != FINE:
                if self.verdicts[CORRUPT] + self.verdicts[STALE] + self.verdicts[MISPLACED] == 0:
                    self.first_wrong = (slot.sector + i) * SECTOR
                self.verdicts[verdict] += 1
        self.sectors_checked += slot.sectors
