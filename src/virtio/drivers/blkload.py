"""A load generator for block devices: one queue, one thread, no GIL.

`BlkLoad` keeps ``depth`` requests in flight on a queue lent by `RequestQueue.exclusive`, reaps them in
batches, starts others in their place and publishes once a batch. `virtio.drivers.load` is its face.

When verifying, every 512-byte sector written carries its own address, a generation that grows with each
write, and a pattern made from the two; what is read must be what was last written there.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import ENOSPC
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.virtio.drivers.blkload import (
    BUCKETS,
    HEAD,
    NO_STATUS,
    REAP,
    SECTOR,
    STATUS_AT,
    SUB_BUCKETS,
    T_IN,
    T_OUT,
    TOGETHER,
    Header,
    Slot,
    bucket_of,
    mix,
)
from cython.cimports.virtio.drivers.channel import (
    CHANNEL_INTERRUPTED,
    CHANNEL_WOKEN,
    Channel,
    monotonic_ns,
    thread_cpu_ns,
)
from cython.cimports.virtio.memory.atomic import cpu_pause
from cython.cimports.virtio.virtqueue.queue import Buffer, Completion

__all__ = ["BUCKET_COUNT", "HEAD_SIZE", "MOST_TOGETHER", "BlkLoad", "bucket_limit", "run_together"]

HEAD_SIZE = HEAD
BUCKET_COUNT = BUCKETS
MOST_TOGETHER = TOGETHER

# What `turn` returns.
_CONTINUE = cython.declare(cython.int, 0)
_PAUSE = cython.declare(cython.int, 1)
_FAULT = cython.declare(cython.int, -1)


def bucket_limit(bucket: int) -> int:
    """The first latency in nanoseconds that is beyond a histogram bucket."""
    if bucket < 2 * SUB_BUCKETS:
        return bucket + 1
    exponent = bucket // SUB_BUCKETS - 1
    return (bucket - exponent * SUB_BUCKETS + 1) << exponent


@cython.cclass
class BlkLoad:
    """One generator, on blocks ``first_block`` to ``first_block + blocks`` of ``block_size`` bytes each.

    ``heads`` and ``data`` are (device address, memoryview), depth * HEAD_SIZE and depth * block_size bytes.
    """

    def __init__(
        self,
        channel: Channel,
        heads,
        data,
        *,
        depth: int,
        block_size: int,
        blocks: int,
        first_block: int = 0,
        random: bool = True,
        read_percent: int = 100,
        polling: bool = False,
        verify: bool = False,
        seed: int = 1,
    ) -> None:
        if self.slots != cython.NULL:
            raise TypeError("made once")
        if not (0 < depth <= channel.queue.size and 0 < blocks < 1 << 32 and 0 <= read_percent <= 100):
            raise ValueError(f"depth {depth}, {blocks} blocks, {read_percent} % reads")
        if block_size <= 0 or block_size % SECTOR or block_size >= 1 << 32:
            raise ValueError(f"blocks of {block_size} bytes")
        if len(heads[1]) < depth * HEAD or len(data[1]) < depth * block_size:
            raise ValueError("too little memory for so many requests")
        self.channel = channel
        self.queue = channel.queue
        self.depth, self.block_size, self.blocks, self.first_block = depth, block_size, blocks, first_block
        self.random, self.read_percent = random, read_percent
        self.polling, self.verify = polling, verify
        self.state = seed
        self.memory = (heads[1], data[1])
        self.allocate()
        self.place(heads, data)

    def __dealloc__(self) -> None:
        free(self.slots)
        free(self.generations)
        free(self.busy)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def allocate(self) -> cython.int:
        """Make our own records."""
        self.slots = cython.cast(cython.pointer[Slot], calloc(self.depth, cython.sizeof(Slot)))
        if self.slots == cython.NULL:
            raise MemoryError
        if not self.verify:
            return 0
        self.generations = cython.cast(cython.pointer[uint32_t], calloc(self.blocks, 4))
        self.busy = cython.cast(cython.pointer[cython.uchar], calloc(self.blocks, 1))
        if self.generations == cython.NULL or self.busy == cython.NULL:
            raise MemoryError
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def place(self, heads, data) -> cython.int:
        """Note where each request's head and data are."""
        head_bytes: cython.uchar[::1] = heads[1]
        data_bytes: cython.uchar[::1] = data[1]
        i: cython.int
        for i in range(self.depth):
            self.slots[i].head = cython.cast(cython.p_char, cython.address(head_bytes[i * HEAD]))
            self.slots[i].data = cython.cast(cython.p_char, cython.address(data_bytes[i * self.block_size]))
            self.slots[i].head_address = heads[0] + i * HEAD
            self.slots[i].data_address = data[0] + i * self.block_size
        return 0

    @property
    def fault(self) -> int:
        """What the device did wrong with the ring (a RingFault), else 0."""
        return self.queue.fault

    def histogram(self) -> list[int]:
        """Requests by latency; see `bucket_limit`."""
        return [self.latencies[bucket] for bucket in range(BUCKETS)]

    def allow(self, requests: int) -> None:
        """How many more requests may be submitted; none at first."""
        self.left = requests

    def run(self, nanoseconds: int) -> bool:
        """Go on for so long, or until a fault, a wake-up, a signal, or until all that was allowed is done.

        Requests stay in flight across calls. False if the device broke the ring.
        """
        begin: int64_t = monotonic_ns()
        cpu: int64_t = thread_cpu_ns()
        until: int64_t = begin + cython.cast(int64_t, nanoseconds)
        state: cython.int = _CONTINUE
        with cython.nogil:
            if self.fill_queue(begin) < 0:
                state = _FAULT
            while state == _CONTINUE:
                state = self.turn(until)
        self.cpu_ns += thread_cpu_ns() - cpu
        self.elapsed_ns += monotonic_ns() - begin
        return state != _FAULT

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def turn(self, until: int64_t) -> cython.int:
        """Reap a batch and start as many again."""
        completions = cython.declare(Completion[64])
        i: cython.int
        now: int64_t
        count: cython.int = self.queue.reap(completions, REAP)
        if count < 0:
            return _FAULT
        if count == 0:
            if self.in_flight == 0:
                return _PAUSE
            return self.idle(until)
        now = monotonic_ns()
        for i in range(count):
            self.finish(completions[i].token, now)
        for i in range(count):
            if self.left and self.start(completions[i].token, now) < 0:
                return _FAULT
        self.channel.publish_and_kick()
        return _PAUSE if now >= until else _CONTINUE

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def idle(self, until: int64_t) -> cython.int:
        """Nothing finished: spin a little, or sleep."""
        _: cython.int
        result: cython.int
        if self.polling:
            for _ in range(256):
                if self.queue.finished():
                    return _CONTINUE
                cpu_pause()
            return _PAUSE if monotonic_ns() >= until else _CONTINUE
        result = self.channel.wait_finished(max(until - monotonic_ns(), 0))
        if result in (CHANNEL_WOKEN, CHANNEL_INTERRUPTED):
            return _PAUSE
        return _PAUSE if monotonic_ns() >= until else _CONTINUE

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def fill_queue(self, now: int64_t) -> cython.int:
        """Start what may be started; slots that are idle say so by their kind."""
        i: cython.int
        for i in range(self.depth):
            if self.left and self.slots[i].submitted == 0 and self.start(i, now) < 0:
                return -1
        self.channel.publish_and_kick()
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def random_number(self) -> uint64_t:
        """The next of splitmix64."""
        self.state += cython.cast(uint64_t, 0x9E3779B97F4A7C15)
        return mix(self.state)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def choose_block(self) -> uint64_t:
        """The next block; never one in flight when verifying (there are more blocks than requests)."""
        block: uint64_t = self.next_block
        if self.random:
            block = ((self.random_number() >> 32) * self.blocks) >> 32
        if self.verify:
            while self.busy[block]:
                block = block + 1 if block + 1 < self.blocks else 0
            self.busy[block] = 1
        self.next_block = block + 1 if block + 1 < self.blocks else 0
        return block

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def start(self, index: uint64_t, now: int64_t) -> cython.int:
        """Put one request on the ring. -1 if the ring does not take it."""
        buffers = cython.declare(Buffer[3])
        slot: cython.pointer[Slot] = cython.address(self.slots[index])
        header: cython.pointer[Header] = cython.cast(cython.pointer[Header], slot.head)
        status: cython.int
        slot.block = self.choose_block()
        slot.kind = T_IN
        if self.read_percent < 100 and self.random_number() % 100 >= self.read_percent:
            slot.kind = T_OUT
        slot.submitted = now
        if self.verify:
            self.fill_data(slot)
        header.type = slot.kind
        header.reserved = 0
        header.sector = (self.first_block + slot.block) * (self.block_size // SECTOR)
        slot.head[STATUS_AT] = cython.cast(cython.char, NO_STATUS)
        buffers[0].address = slot.head_address
        buffers[0].length = cython.sizeof(Header)
        buffers[1].address = slot.data_address
        buffers[1].length = self.block_size
        buffers[2].address = slot.head_address + STATUS_AT
        buffers[2].length = 1
        if slot.kind == T_IN:
            status = self.queue.add(buffers, 1, 2, index)
        else:
            status = self.queue.add(buffers, 2, 1, index)
        if status < 0:
            slot.submitted = 0
            if self.verify:
                self.busy[slot.block] = 0
            # No room: the slot rests until the next `run`.
            return 0 if status == -ENOSPC else -1
        if self.verify and slot.kind == T_OUT:
            self.generations[slot.block] = slot.generation
        self.left -= 1
        self.in_flight += 1
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def finish(self, index: uint64_t, now: int64_t) -> cython.void:
        """Account for a finished request."""
        slot: cython.pointer[Slot] = cython.address(self.slots[index])
        status: cython.int = cython.cast(cython.uchar, slot.head[STATUS_AT])
        latency: int64_t = now - slot.submitted
        self.in_flight -= 1
        self.completed += 1
        self.latencies[bucket_of(latency)] += 1
        if latency > self.max_latency_ns:
            self.max_latency_ns = latency
        slot.submitted = 0
        if status != 0:
            self.errors += 1
            self.last_status = status
        if self.verify:
            self.busy[slot.block] = 0
            if status != 0:
                self.generations[slot.block] = 0  # who knows what is there now
            elif slot.kind == T_IN and slot.generation != 0:
                self.check_data(slot)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def fill_data(self, slot: cython.pointer[Slot]) -> cython.void:
        """For a write, make new data; for a read, note which is expected."""
        i: cython.int
        word: cython.pointer[uint64_t] = cython.cast(cython.pointer[uint64_t], slot.data)
        sectors: uint64_t = self.block_size // SECTOR
        sector: uint64_t = (self.first_block + slot.block) * sectors
        last: uint64_t = sector + sectors
        pattern: uint64_t
        if slot.kind == T_IN:
            slot.generation = self.generations[slot.block]
            return
        self.next_generation += 1
        slot.generation = self.next_generation
        while sector < last:
            pattern = mix(sector ^ (cython.cast(uint64_t, slot.generation) << 40))
            word[0] = sector
            word[1] = slot.generation
            for i in range(2, SECTOR // 8):
                word[i] = pattern + i
            word += SECTOR // 8
            sector += 1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def check_data(self, slot: cython.pointer[Slot]) -> cython.void:
        """Compare what was read with what was written there last."""
        i: cython.int
        word: cython.pointer[uint64_t] = cython.cast(cython.pointer[uint64_t], slot.data)
        sectors: uint64_t = self.block_size // SECTOR
        sector: uint64_t = (self.first_block + slot.block) * sectors
        last: uint64_t = sector + sectors
        difference: uint64_t = 0
        pattern: uint64_t
        while sector < last:
            pattern = mix(sector ^ (cython.cast(uint64_t, slot.generation) << 40))
            difference |= (word[0] ^ sector) | (word[1] ^ slot.generation)
            for i in range(2, SECTOR // 8):
                difference |= word[i] ^ (pattern + i)
            word += SECTOR // 8
            sector += 1
        if difference != 0:
            if self.mismatches == 0:
                self.first_mismatch = (self.first_block + slot.block) * self.block_size
            self.mismatches += 1


def run_together(loads, nanoseconds: int):
    """Let this thread drive several queues, each when something finished on it; it polls.

    As `BlkLoad.run` otherwise, which every load of ``loads`` (1 to MOST_TOGETHER) must be fit for. What it
    cost is told by the first of them alone. The load whose device broke the ring, or None.
    """
    pointers = cython.declare(cython.p_void[TOGETHER])
    load: BlkLoad
    i: cython.int
    count: cython.int = len(loads)
    broken: cython.int = -1
    begin: int64_t = monotonic_ns()
    until: int64_t = begin + cython.cast(int64_t, nanoseconds)
    cpu: int64_t = thread_cpu_ns()
    if not 0 < count <= TOGETHER:
        raise ValueError(f"{count} loads")
    for i in range(count):
        load = loads[i]
        pointers[i] = cython.cast(cython.p_void, load)
    with cython.nogil:
        broken = turn_together(pointers, count, begin, until)
    load = loads[0]
    load.cpu_ns += thread_cpu_ns() - cpu
    load.elapsed_ns += monotonic_ns() - begin
    return None if broken < 0 else loads[broken]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def turn_together(
    loads: cython.pointer[cython.p_void], count: cython.int, begin: int64_t, until: int64_t
) -> cython.int:
    """Drive them until a time, or until nothing is in flight: -1, or which of them met a broken ring."""
    i: cython.int
    busy: cython.bint = True
    for i in range(count):
        if cython.cast(BlkLoad, loads[i]).fill_queue(begin) < 0:
            return i
    while busy:
        busy = False
        for i in range(count):
            busy = busy or cython.cast(BlkLoad, loads[i]).in_flight > 0
            if not cython.cast(BlkLoad, loads[i]).queue.finished():
                continue
            if cython.cast(BlkLoad, loads[i]).turn(until) == _FAULT:
                return i
        if monotonic_ns() >= until:
            break
        cpu_pause()
    return -1
