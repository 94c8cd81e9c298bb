"""``pcap:FILE``: what a capture holds comes to the guest, in the time in which it was captured."""

from __future__ import annotations

import logging
import os
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from virtio.errors import CaptureFileError, NetworkError
from virtio.network.buffers import put_buffers
from virtio.network.capture_file import Packet, read
from virtio.network.link import Link, Sink
from virtio.network.pcapng import ETHERNET, Direction

__all__ = ["DIRECTIONS", "Index", "ReplayLink", "Schedule", "index_capture"]

logger = logging.getLogger("virtio.network")

BURST = 64
PATIENCE = 0.001
"""Seconds to wait for a guest that has no room."""

SHORTEST_ROUND = 10**6
"""Nanoseconds: a capture of one moment that is looped does not become a flood."""

MOST_READ = 1 << 20
"""Bytes."""

SHORTEST, LONGEST = 14, 65550
"""Bytes of a frame that a guest can be given."""

DIRECTIONS = {
    "all": (Direction.UNKNOWN, Direction.IN, Direction.OUT),
    "in": (Direction.UNKNOWN, Direction.IN),
    "out": (Direction.UNKNOWN, Direction.OUT),
}
"""Which frames of a capture to replay; those of which the direction is not known always belong."""


@dataclass
class Index:
    """Where a capture's Ethernet frames are, and when they came: nanoseconds after the file's first one."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    skipped: int = 0
    cut: int = 0
    links: set[int] = field(default_factory=set)

    def add(self, packet: Packet, directions: tuple[Direction, ...], start: int) -> None:
        """Note a frame. ``skipped`` counts those that no guest can take, ``cut`` those not captured whole."""
        length = len(packet.data)
        self.links.add(packet.interface.link_type)
        if packet.interface.link_type != ETHERNET or not SHORTEST <= length <= LONGEST:
            self.skipped += 1
        elif packet.direction in directions:
            self.cut += length < packet.original
            self.offsets.append(packet.offset)
            self.lengths.append(length)
            self.times.append(packet.time - start)


def index_capture(path: str, direction: str = "all", *, damaged: bool = False) -> Index:
    """Read a capture once and note its frames. Raises CaptureFileError.

    ``damaged`` takes what comes before the damage, if anything does.
    """
    index = Index()
    start: int | None = None
    try:
        with open(path, "rb") as stream:
            for record in read(stream, path):
                if isinstance(record, Packet):
                    start = record.time if start is None else start
                    index.add(record, DIRECTIONS[direction], start)
    except OSError as error:
        raise NetworkError(f"cannot read {path}: {error.strerror}") from None
    except CaptureFileError as error:
        if not damaged or not index.offsets:
            raise
        logger.warning("%s; what comes before is replayed", error)
    if not index.offsets:
        kinds = ", ".join(map(str, sorted(index.links - {ETHERNET})))
        reason = f"its frames are of link types {kinds}, not Ethernet" if kinds else "it holds no such frame"
        raise CaptureFileError(f"nothing of {path} can be replayed: {reason}")
    return index


class Schedule:
    """When each frame is due: ``speed`` times as fast as it was captured, ``loops`` times over.

    Times are nanoseconds of any clock. A speed of None waits for nothing, 0 loops never end.
    """

    def __init__(self, times: array[int], speed: float | None = 1.0, loops: int = 1) -> None:
        # Captures may be out of order; frames go in the file's order, none earlier than the one before it.
        self.times = array("q")
        latest = 0
        for stamp in times:
            latest = max(latest, stamp - times[0])
            self.times.append(latest if speed is None else round(latest / speed))
        self.speed = speed
        self.loops = loops
        self.next = 0
        self.round = 0
        self.start: int | None = None

    @property
    def finished(self) -> bool:
        """Whether all has been replayed."""
        return bool(self.loops) and self.round >= self.loops

    def due(self, now: int, most: int = BURST) -> range:
        """Numbers of the frames that are due, at most ``most``."""
        if self.speed is None:
            end = len(self.times)
        else:
            start = now if self.start is None else self.start
            end = bisect_right(self.times, now - start, self.next)
        return range(self.next, min(end, self.next + most))

    def sent(self, count: int, now: int) -> None:
        """So many of the due frames have gone; the first of a round begins its time."""
        if count and self.start is None and self.speed is not None:
            self.start = now
        self.next += count
        if self.next == len(self.times):
            self.next = 0
            self.round += 1
            self.start = None if self.start is None else max(now, self.start + SHORTEST_ROUND)

    def wait(self, now: int) -> int:
        """Nanoseconds until the next frame is due."""
        if self.speed is None or self.start is None:
            return 0
        return max(0, self.start + self.times[self.next] - now)


class ReplayLink(Link):
    """Replays ``path`` into the guest, from the moment when it first has room; drops what the guest sends.

    Like a wire it does not wait for a guest that is too slow, unless ``speed`` is None: then it gives frames
    as fast as they are taken. Raises CaptureFileError for a damaged file, NetworkError for an unreadable one.
    """

    def __init__(
        self,
        path: str,
        *,
        speed: float | None = 1.0,
        loops: int = 1,
        direction: str = "all",
        damaged: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__()
        self.path = path
        self.speed = speed
        self.clock = clock
        self.index = index_capture(path, direction, damaged=damaged)
        self.schedule = Schedule(self.index.times, speed, loops)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.stop = threading.Event()
        self.finished = threading.Event()
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None
        self.counters = {"frames": 0, "bytes": 0, "dropped": 0}

    @property
    def name(self) -> str:
        """Its URL."""
        return f"pcap:{self.path}"

    def connect(self, guest: Sink, queues: int = 1) -> None:
        """Begin, or go on, with this guest. UsageError if another one is connected."""
        super().connect(guest, queues)
        self.stop.clear()
        self.thread = threading.Thread(target=self.run, args=(guest,), name="virtio-replay", daemon=True)
        self.thread.start()

    def disconnect(self) -> None:
        """Pause; when this returns, no thread is in the guest's `put`."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        super().disconnect()

    def run(self, guest: Sink) -> None:
        """Replay until the end or `disconnect`; the target of its thread."""
        try:
            while not self.schedule.finished and not self.stop.is_set():
                self.stop.wait(self.step(guest) / 1e9)
            if self.schedule.finished:
                self.finished.set()
        except (OSError, CaptureFileError) as error:
            self.error = error
            logger.error("replay of %s ended: %s", self.path, error)
            self.finished.set()

    def step(self, guest: Sink) -> int:
        """Give the guest what is due; nanoseconds until there is more to do."""
        now = self.clock()
        due = self.near(self.schedule.due(now))
        if due:
            frames = self.load(due)
            taken = put_buffers(guest, frames)
            self.counters["frames"] += taken
            self.counters["bytes"] += sum(map(len, frames[:taken]))
            # Before its first frame a guest is not there yet, and at full speed it is the measure.
            waits = self.speed is None or self.schedule.start is None
            self.counters["dropped"] += 0 if waits else len(due) - taken
            self.schedule.sent(taken if waits else len(due), now)
            if waits and taken < len(due):
                return int(PATIENCE * 1e9)
        return 0 if self.schedule.finished else self.schedule.wait(self.clock())

    def near(self, numbers: range) -> range:
        """Those of the frames that one read of a sensible size gets: what is between them is read too."""
        offsets, lengths = self.index.offsets, self.index.lengths
        while (
            len(numbers) > 1 and offsets[numbers[-1]] + lengths[numbers[-1]] - offsets[numbers[0]] > MOST_READ
        ):
            numbers = numbers[: len(numbers) // 2]
        return numbers

    def load(self, numbers: range) -> list[memoryview]:
        """Frames from the file, in one read of all that lies between them."""
        offsets, lengths = self.index.offsets, self.index.lengths
        start = offsets[numbers[0]]
        size = offsets[numbers[-1]] + lengths[numbers[-1]] - start
        data = memoryview(os.pread(self.fd, size, start))
        if len(data) < size:
            raise CaptureFileError(f"{self.path} was cut at byte {start + len(data)} since it was opened")
        return [data[offsets[n] - start : offsets[n] - start + lengths[n]] for n in numbers]

    def stats(self) -> dict[str, int]:
        """``frames`` and ``bytes`` given to the guest, ``dropped`` for lack of room.

        Of the file: ``skipped`` frames cannot be given, ``cut`` ones were not captured whole.
        """
        return {**self.counters, "skipped": self.index.skipped, "cut": self.index.cut}

    def close(self) -> None:
        """Let go of the file."""
        self.disconnect()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
