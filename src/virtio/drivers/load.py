"""Puts load on a disk and measures it: a thread a queue, or one for all, in compiled code without the GIL."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NoReturn

from virtio.drivers.blk import Blk
from virtio.drivers.blkload import HEAD_SIZE, MOST_TOGETHER, BlkLoad, bucket_limit, run_together
from virtio.drivers.channel import Channel
from virtio.drivers.memory import Buffer
from virtio.drivers.queue import RequestQueue, again
from virtio.errors import DeviceTimeoutError, UnsupportedRequestError, UsageError, VirtioError
from virtio.spec import features as bits

__all__ = ["LoadOptions", "LoadResult", "run_load"]

SLICE_NS = 50_000_000  # how often a generator looks up for signals and failures
DESCRIPTORS = 3  # a request takes without indirect tables: header, data, status
UNLIMITED = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What to do to the disk.

    ``depth`` requests of ``block_size`` bytes are in flight on each of the disk's queues, ``read_percent`` of
    them reads, the rest writes, at random or one after the other, within the first ``span`` bytes (all if
    None). It ends after ``seconds`` or after ``requests`` (on all queues together), whatever comes
    first. ``polling`` spins for completions; else the generator sleeps on its bell. ``together`` has one
    thread drive all queues, which needs polling; else each has its own. ``verify`` checks the data read that
    was written in the same run.
    """

    block_size: int = 4096
    depth: int = 32
    random: bool = True
    read_percent: int = 100
    seconds: float | None = 5.0
    requests: int | None = None
    span: int | None = None
    polling: bool = False
    together: bool = False
    verify: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What came of it. Latencies in nanoseconds, at most 3 % too large; ``latencies`` maps limit to count."""

    requests: int
    seconds: float
    errors: int
    mismatches: int
    first_mismatch: int | None
    cpu_seconds: float
    kicks: int
    sleeps: int
    max_latency: int
    latencies: dict[int, int]
    block_size: int

    @property
    def iops(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def bandwidth(self) -> float:
        """Bytes per second."""
        return self.iops * self.block_size

    def percentile(self, percent: float) -> int:
        """The latency that ``percent`` of the requests did not exceed."""
        wanted = self.requests * percent / 100
        seen = 0
        for limit, count in sorted(self.latencies.items()):
            seen += count
            if seen >= wanted:
                return min(limit, self.max_latency)
        return self.max_latency


def run_load(disk: Blk, options: LoadOptions) -> LoadResult:
    """Drive all of the disk's queues at once; nothing else may use it meanwhile.

    UsageError for what cannot be done, and what the driver raises if the device fails. Requests that the
    device answers with an error are counted, not raised.
    """
    _check(disk, options)
    with ExitStack() as stack:
        generators = [
            _Generator(disk, queue, stack.enter_context(queue.exclusive()), options, index, stack)
            for index, queue in enumerate(disk.queues)
        ]
        began = time.monotonic()
        if options.together:
            _Together(generators).run()
        else:
            _run_all(generators)
        elapsed = time.monotonic() - began
        _raise_first(generators)
        return _sum_up([generator.load for generator in generators], generators, elapsed, options)


class _Runner:
    """Goes on for so long, then waits for what is in flight."""

    error: BaseException | None = None
    seconds: float | None
    timeout: float

    @property
    def left(self) -> int:
        """Requests still to be submitted."""
        raise NotImplementedError

    @property
    def in_flight(self) -> int:
        """Requests that the device has not finished."""
        raise NotImplementedError

    @property
    def broken(self) -> bool:
        """Whether a queue cannot be used any more."""
        raise NotImplementedError

    def stop(self) -> None:
        """Submit no more."""
        raise NotImplementedError

    def slice(self, nanoseconds: int) -> None:
        """Go on for so long; raises what went wrong."""
        raise NotImplementedError

    def give_up(self, unanswered: int) -> NoReturn:
        """Nothing came for too long."""
        raise NotImplementedError

    def run(self) -> None:
        """The thread's whole life; what goes wrong is kept in ``error``."""
        try:
            try:
                self._work()
            finally:
                if not self.broken:
                    self._finish()
        except BaseException as error:
            self.error = error

    def _work(self) -> None:
        deadline = None if self.seconds is None else time.monotonic_ns() + int(self.seconds * 1e9)
        while self.left:
            left = SLICE_NS if deadline is None else min(SLICE_NS, deadline - time.monotonic_ns())
            if left <= 0:
                break
            self.slice(left)

    def _finish(self) -> None:
        """Wait for what is in flight, as long as something comes."""
        self.stop()
        patience = time.monotonic() + self.timeout
        while before := self.in_flight:
            self.slice(SLICE_NS)
            if self.in_flight < before:
                patience = time.monotonic() + self.timeout
            elif time.monotonic() > patience:
                self.give_up(before)


class _Generator(_Runner):
    """One queue's share of the load."""

    def __init__(
        self,
        disk: Blk,
        queue: RequestQueue,
        channel: Channel,
        options: LoadOptions,
        index: int,
        stack: ExitStack,
    ) -> None:
        self.queue = queue
        self.channel = channel
        self._before = channel.kicks, channel.sleeps
        self.timeout = disk.options.timeout or 30.0
        self.seconds = options.seconds
        count = len(disk.queues)
        heads = stack.enter_context(disk.buffer(options.depth * HEAD_SIZE))
        data = stack.enter_context(disk.buffer(options.depth * options.block_size))
        first, blocks = _share(_blocks(disk, options), index, count)
        self.load = BlkLoad(
            channel,
            _pair(heads),
            _pair(data),
            depth=options.depth,
            block_size=options.block_size,
            blocks=blocks,
            first_block=first,
            random=options.random,
            read_percent=options.read_percent,
            polling=options.polling,
            verify=options.verify,
            seed=options.seed + index,
        )
        wanted = UNLIMITED if options.requests is None else _share(options.requests, index, count)[1]
        self.load.allow(wanted)

    @property
    def kicks(self) -> int:
        """Notifications sent."""
        return self.channel.kicks - self._before[0]

    @property
    def sleeps(self) -> int:
        """Times the generator slept."""
        return self.channel.sleeps - self._before[1]

    @property
    def left(self) -> int:
        return self.load.left

    @property
    def in_flight(self) -> int:
        return self.load.in_flight

    @property
    def broken(self) -> bool:
        return self.queue.failure is not None

    def stop(self) -> None:
        self.load.allow(0)

    def slice(self, nanoseconds: int) -> None:
        fine = self.load.run(nanoseconds)
        self.check(fine)

    def check(self, fine: bool) -> None:
        """Raise what stopped the queue; ``fine`` is False if its ring is broken."""
        if self.queue.failure is not None:
            raise again(self.queue.failure)
        if not fine:
            self._fail(self.queue.ring_error())

    def give_up(self, unanswered: int) -> NoReturn:
        self._fail(DeviceTimeoutError(f"queue {self.queue.index}: {unanswered} requests are not answered"))

    def _fail(self, error: VirtioError) -> NoReturn:
        """The queue cannot be used any more: requests of ours are still on it."""
        self.queue.fail(error)
        raise again(error)


class _Together(_Runner):
    """All queues' shares, driven by one thread, which polls. Its error is the first generator's."""

    def __init__(self, generators: Sequence[_Generator]) -> None:
        self.generators = generators
        self.loads = [generator.load for generator in generators]
        self.seconds = generators[0].seconds
        self.timeout = generators[0].timeout

    @property
    def left(self) -> int:
        return sum(load.left for load in self.loads)

    @property
    def in_flight(self) -> int:
        return sum(load.in_flight for load in self.loads)

    @property
    def broken(self) -> bool:
        return any(generator.broken for generator in self.generators)

    def stop(self) -> None:
        for generator in self.generators:
            generator.stop()

    def slice(self, nanoseconds: int) -> None:
        broken = run_together(self.loads, nanoseconds)
        for generator in self.generators:
            generator.check(generator.load is not broken)

    def give_up(self, unanswered: int) -> NoReturn:
        slow = next(generator for generator in self.generators if generator.in_flight)
        slow.give_up(unanswered)

    def run(self) -> None:
        super().run()
        self.generators[0].error = self.error


def _check(disk: Blk, options: LoadOptions) -> None:
    if options.block_size < disk.block_size or options.block_size % disk.block_size:
        raise UsageError(f"requests of {options.block_size} bytes on a disk with blocks of {disk.block_size}")
    if options.block_size > disk.properties.segment_size:
        raise UsageError(f"the device takes segments of {disk.properties.segment_size} bytes at most")
    if options.together and not options.polling:
        raise UsageError("one thread cannot sleep for several queues", fix="polling=True")
    if options.together and len(disk.queues) > MOST_TOGETHER:
        raise UsageError(f"one thread drives {MOST_TOGETHER} queues at most, not {len(disk.queues)}")
    if options.seconds is None and options.requests is None:
        raise UsageError("neither a duration nor a number of requests")
    if not 0 <= options.read_percent <= 100:
        raise UsageError(f"{options.read_percent} % reads")
    if disk.read_only and options.read_percent < 100:
        raise UnsupportedRequestError("the device is read-only")
    _check_depth(disk, options)


def _check_depth(disk: Blk, options: LoadOptions) -> None:
    size = min(queue.size for queue in disk.queues)
    most = size if disk.has(bits.INDIRECT_DESC) else size // DESCRIPTORS
    if not 1 <= options.depth <= most:
        raise UsageError(
            f"depth {options.depth} on queues that hold 1 to {most} requests",
            fix="connect with a larger queue_size",
        )
    blocks = _blocks(disk, options) // len(disk.queues)
    if blocks < 1 or (options.verify and blocks < 2 * options.depth):
        raise UsageError(f"{blocks} blocks a queue are too few for depth {options.depth}")


def _blocks(disk: Blk, options: LoadOptions) -> int:
    span = disk.capacity if options.span is None else min(options.span, disk.capacity)
    return min(span // options.block_size, len(disk.queues) * ((1 << 32) - 1))


def _share(whole: int, index: int, count: int) -> tuple[int, int]:
    """Where part ``index`` of ``count`` begins, and its length."""
    begin, end = whole * index // count, whole * (index + 1) // count
    return begin, end - begin


def _pair(buffer: Buffer) -> tuple[int, memoryview]:
    return buffer.address, buffer.view


def _run_all(generators: Sequence[_Generator]) -> None:
    """The first in this thread, so that ^C reaches it; the others in threads of their own."""
    threads = [threading.Thread(target=generator.run, name="virtio-load") for generator in generators[1:]]
    for thread in threads:
        thread.start()
    generators[0].run()
    if generators[0].error is not None:
        for generator in generators:
            generator.stop()
    for thread in threads:
        thread.join()


def _raise_first(generators: Sequence[_Generator]) -> None:
    for generator in generators:
        if isinstance(generator.error, VirtioError):
            raise again(generator.error)
        if generator.error is not None:
            raise generator.error


def _sum_up(
    loads: Sequence[BlkLoad], generators: Sequence[_Generator], elapsed: float, options: LoadOptions
) -> LoadResult:
    latencies: dict[int, int] = {}
    for load in loads:
        for bucket, count in enumerate(load.histogram()):
            if count:
                limit = bucket_limit(bucket)
                latencies[limit] = latencies.get(limit, 0) + count
    wrong = [load.first_mismatch for load in loads if load.mismatches]
    return LoadResult(
        requests=sum(load.completed for load in loads),
        seconds=elapsed,
        errors=sum(load.errors for load in loads),
        mismatches=sum(load.mismatches for load in loads),
        first_mismatch=min(wrong) if wrong else None,
        cpu_seconds=sum(load.cpu_ns for load in loads) / 1e9,
        kicks=sum(generator.kicks for generator in generators),
        sleeps=sum(generator.sleeps for generator in generators),
        max_latency=max(load.max_latency_ns for load in loads),
        latencies=latencies,
        block_size=options.block_size,
    )
