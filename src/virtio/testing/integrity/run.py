"""One integrity run: zeroes, then a mix of all requests, then everything read once more."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count

from virtio.drivers import Blk
from virtio.drivers.queue import again
from virtio.errors import DeviceTimeoutError, UsageError, VirtioError
from virtio.spec import blk
from virtio.testing.integrity.generator import HEAD_SIZE, LARGEST, Generator

__all__ = ["IntegrityOptions", "IntegrityResult", "IntegrityRun", "run_integrity"]

SLICE_NS = 50_000_000  # how often the generator looks up for signals and failures
STINT = 100_000  # requests, or an eighth of all; two stints as the options say are followed by two calm ones,
CALM = 100  # with so many times fewer flushes and discards: caches in the device may warm
DESCRIPTORS = 4  # a request takes without indirect tables: header, data in two pieces, status


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityOptions:
    """What to do to the disk.

    ``requests`` in all, ``depth`` in flight on each queue, within the first ``span`` bytes (None: the whole
    disk), each of 512 to ``largest`` bytes. Of those with data ``read_percent`` are reads. One request in
    ``flush_every`` begins a burst of flushes, one in ``range_every`` is a discard or write-zeroes, 0 for
    none; both are much rarer for half of the time.
    """

    requests: int = 100_000
    depth: int = 32
    span: int | None = None
    largest: int = LARGEST
    read_percent: int = 50
    flush_every: int = 1000
    range_every: int = 200
    seed: int = 1


@dataclass(frozen=True, slots=True)
class IntegrityResult:
    """What came of it. ``kinds`` counts requests by type, ``wrong`` sectors by what was wrong with them:
    "corrupt" (never written so), "stale" (older than it must be), "misplaced" (meant for another address).
    """

    requests: int
    seconds: float
    errors: int
    last_status: int
    kinds: dict[str, int]
    sectors_checked: int
    sectors_written: int
    wrong: dict[str, int] = field(default_factory=dict)
    first_wrong: int | None = None

    @property
    def sound(self) -> bool:
        """Whether every request succeeded and every sector read was as it must be."""
        return not self.errors and not self.wrong


def run_integrity(
    disk: Blk, options: IntegrityOptions, *, on_progress: Callable[[int], None] | None = None
) -> IntegrityResult:
    """Overwrite the disk's span, and check all that is read; nothing else may use the disk meanwhile.

    ``on_progress`` is told now and then how many requests are done. UsageError for what cannot be done, and
    what the driver raises if the device fails.
    """
    with IntegrityRun(disk, options) as run:
        run.mingle(options.requests, on_progress)
        run.sweep()
        return run.result()


class IntegrityRun:
    """The same in steps: what happens to the disk between them is the caller's business."""

    def __init__(self, disk: Blk, options: IntegrityOptions) -> None:
        self._disk = disk
        span = disk.capacity if options.span is None else options.span
        _check(disk, options, span)
        _clear(disk, span)
        self._flush_every = options.flush_every if disk.has(blk.F_FLUSH) else 0
        self._range_every = options.range_every
        self._timeout = disk.options.timeout or 30.0
        self._began = time.monotonic()
        self._stack = ExitStack()
        slots = len(disk.queues) * options.depth
        with ExitStack() as stack:
            channels = [stack.enter_context(queue.exclusive()) for queue in disk.queues]
            heads = stack.enter_context(disk.buffer(slots * HEAD_SIZE))
            data = stack.enter_context(disk.buffer(slots * options.largest))
            self._generator = Generator(
                channels,
                (heads.address, heads.view),
                (data.address, data.view),
                depth=options.depth,
                span=span // blk.SECTOR_SIZE,
                largest=options.largest,
                read_percent=options.read_percent,
                discards=disk.has(blk.F_DISCARD),
                zeroes=disk.has(blk.F_WRITE_ZEROES),
                seed=options.seed,
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> IntegrityRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def mingle(self, requests: int, on_progress: Callable[[int], None] | None = None) -> None:
        """Do so many requests of all kinds."""
        goal = self._generator.completed + requests
        size = min(STINT, max(requests // 8, 1))
        for stint in count():
            left = goal - self._generator.completed
            if left <= 0:
                return
            calm = 1 + stint % 4 // 2 * (CALM - 1)
            self._generator.mingle(self._flush_every * calm, self._range_every * calm)
            self._generator.allow(min(left, size))
            self._work(on_progress)

    def sweep(self) -> None:
        """Read everything once."""
        self._generator.sweep()
        self._work(None)

    def result(self) -> IntegrityResult:
        """What came of it so far."""
        generator, table = self._generator, self._generator.table
        return IntegrityResult(
            requests=generator.completed,
            seconds=time.monotonic() - self._began,
            errors=generator.errors,
            last_status=generator.last_status,
            kinds={blk.DEVICE.constant_name("T_", kind): n for kind, n in generator.kinds.items()},
            sectors_checked=table.checked,
            sectors_written=table.written,
            wrong=table.wrong,
            first_wrong=table.first_wrong if table.wrong else None,
        )

    def _work(self, on_progress: Callable[[int], None] | None) -> None:
        generator = self._generator
        before, patience = generator.completed, time.monotonic() + self._timeout
        while generator.left or generator.in_flight:
            self._slice()
            if generator.completed > before:
                before, patience = generator.completed, time.monotonic() + self._timeout
                if on_progress is not None:
                    on_progress(before)
            elif time.monotonic() > patience:
                self._fail(DeviceTimeoutError(f"{generator.in_flight} requests are not answered"))

    def _slice(self) -> None:
        fine = self._generator.run(SLICE_NS)
        for queue in self._disk.queues:
            if queue.failure is not None:
                raise again(queue.failure)
        if not fine:
            self._fail(self._disk.queues[self._generator.broken].ring_error())

    def _fail(self, error: VirtioError) -> None:
        """No queue can be used any more: requests of ours are still on them."""
        for queue in self._disk.queues:
            queue.fail(error)
        raise again(error)


def _check(disk: Blk, options: IntegrityOptions, span: int) -> None:
    if disk.read_only or disk.block_size != blk.SECTOR_SIZE:
        raise UsageError("an integrity run needs a writable disk with blocks of 512 bytes")
    largest = options.largest
    if not blk.SECTOR_SIZE <= largest <= LARGEST or largest % blk.SECTOR_SIZE:
        raise UsageError(f"requests of up to {largest} bytes: it can be 512 to {LARGEST}, in sectors")
    if disk.properties.segment_size < largest or disk.properties.segments < 2:
        raise UsageError(f"the device takes less than two segments of {largest} bytes in a request")
    size = min(queue.size for queue in disk.queues)
    if not 1 <= options.depth <= size // DESCRIPTORS:
        raise UsageError(
            f"depth {options.depth} on queues that hold 1 to {size // DESCRIPTORS} requests",
            fix="connect with a larger queue_size",
        )
    least = 2 * largest * len(disk.queues)
    if not least <= span <= disk.capacity or span % blk.SECTOR_SIZE:
        raise UsageError(f"a span of {span} bytes is not between {least} and the disk's {disk.capacity}")


def _clear(disk: Blk, span: int) -> None:
    """All zeroes at first, whatever was there."""
    if disk.has(blk.F_WRITE_ZEROES):
        disk.write_zeroes(0, span)
        return
    zeroes = bytes(LARGEST)
    for offset in range(0, span, LARGEST):
        disk.write(offset, zeroes[: min(LARGEST, span - offset)])
