"""A wire with one end in a test's hands: it sends frames, and keeps those that come.

The other end goes into a NIC, to which the wire is a `Link` like any other:

>>> wire = Wire()
>>> wire.send([bytes(60)])      # no NIC is connected
0

or into a link, to which it is the NIC:

>>> from virtio.network import open_link
>>> wire = Wire(open_link("loop:"))
>>> wire.send([b"an Ethernet frame"])
1
>>> [frame.data for frame in wire.wait()]
[b'an Ethernet frame']
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cython
from cython.cimports.libc.errno import EAGAIN, ENOSPC
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.network.copies import frame_bytes, header_fields, set_header
from cython.cimports.virtio.network.frame import BURST, Frame
from cython.cimports.virtio.network.link import Link, Sink

__all__ = ["HEADER_FIELDS", "Wire", "WireFrame", "put_frames"]


HEADER_FIELDS = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")


@dataclass(frozen=True)
class WireFrame:
    """A frame without its checksum (FCS), and what of it is still to be computed (struct virtio_net_hdr)."""

    data: bytes
    queue: int = 0
    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    @property
    def header(self) -> dict[str, int]:
        """The fields of its header by name."""
        return {name: getattr(self, name) for name in HEADER_FIELDS}


class Layout:
    """Frames in memory, each in one place or in several."""

    def __cinit__(self, frames: list, cut: object) -> None:
        ends = [ends_of(number, len(frame.data), cut) for number, frame in enumerate(frames)]
        self.data = [frame.data for frame in frames]
        self.count = len(frames)
        self.frames = cython.cast(cython.pointer[Frame], calloc(self.count + 1, cython.sizeof(Frame)))
        total: cython.size_t = sum([len(each) for each in ends])
        self.segments = cython.cast(cython.pointer[iovec], calloc(total + 1, cython.sizeof(iovec)))
        if self.frames == cython.NULL or self.segments == cython.NULL:
            raise MemoryError
        segments: cython.pointer[iovec] = self.segments
        i: cython.int
        for i in range(self.count):
            self.frames[i].segments = segments
            self.frames[i].length = len(self.data[i])
            self.frames[i].count = divide(segments, self.data[i], ends[i])
            set_header(cython.address(self.frames[i].header), frames[i].header)
            segments += self.frames[i].count

    def __dealloc__(self) -> None:
        free(self.frames)
        free(self.segments)

    def put(self, sink, queue):
        """Hand them on, at most BURST at once, until there is no room. How many were taken."""
        done: cython.int = 0
        taken: cython.int = 0
        count: cython.int = 0
        with cython.nogil:
            while done < self.count and taken == count:
                count = min(self.count - done, BURST)
                taken = sink.put(queue, self.frames + done, count)
                done += taken
        return done


def ends_of(number: int, length: int, cut: object) -> Sequence[int]:
    """Where the places end that a frame's bytes are spread over."""
    if cut is None:  # every other one in four
        part = length // 4
        return [part, 2 * part, 3 * part, length] if number % 2 else [length]
    if isinstance(cut, int):
        return [*range(cut, length, cut), length]
    return [*(min(position, length) for position in cut), length]


@cython.cfunc
@cython.exceptval(-1)
def divide(segments: cython.pointer[iovec], data: bytes, ends: object) -> cython.int:
    """Describe a frame as segments that end there; how many there are."""
    base: cython.p_char = data
    count: cython.int = 0
    start: cython.size_t = 0
    end: cython.size_t
    for position in ends:
        end = position
        segments[count].iov_base = base + start
        segments[count].iov_len = end - start
        start = end
        count += 1
    return count


def put_frames(
    sink: Sink,
    frames: Sequence[bytes | WireFrame],
    queue: int = 0,
    header: Mapping[str, int] | None = None,
    cut: Sequence[int] | int | None = None,
    times: int = 1,
) -> int:
    """Put frames into ``sink`` on this thread, as a NIC or a link would; how many it took.

    ``header`` has fields of virtio_net_hdr for those that are bytes; what is not given is zero. ``cut`` has
    the positions at which a frame's bytes go on elsewhere in memory, or the number of bytes after which they
    always do; by default every other frame is in four places. All of it is done ``times``, or until there is
    no room.
    """
    fields = dict(header or {})
    given = [frame if isinstance(frame, WireFrame) else WireFrame(frame, **fields) for frame in frames]
    layout: Layout = Layout(given, cut)
    total = 0
    for _ in range(times):
        taken = layout.put(sink, queue)
        total += taken
        if taken < layout.count:
            break
    return total


class Wire:
    """What a NIC connects to, or what stands for one at ``link``, with ``queues`` pairs there.

    ``frames`` are those that came and that nobody took; at most ``room`` are kept at once, None for any
    number: for more there is no room.

    To a NIC, ``offloads`` are the feature bits that the link `accepts`. With ``readable`` it has a file
    descriptor, and what is queued with `offer` waits until the NIC fetches it.
    """

    def __init__(
        self,
        link: Link | None = None,
        queues: int = 1,
        *,
        room: int | None = None,
        offloads: int = 0,
        readable: bool = False,
    ) -> None:
        Link.__init__(self)
        self.frames = []
        self.room = room
        self.offloads = offloads
        self.waiting = deque()
        self.news = threading.Condition()
        self.fetcher = ""
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if readable else -1
        self.link = link
        if link is not None:
            link.connect(self, queues)

    # What comes.

    def put(self, queue, frames, count):
        return self.keep(queue, frames, count)

    def keep(self, queue, frames, count):
        """Copy the frames that there is room for."""
        i: cython.int
        with self.news:
            if self.room is not None:
                count = max(0, min(count, self.room - len(self.frames)))
            for i in range(count):
                header = header_fields(cython.address(frames[i].header))
                self.frames.append(WireFrame(frame_bytes(frames + i), queue, **header))
            self.news.notify_all()
        return count

    def take(self, count: int | None = None) -> list[WireFrame]:
        """The first ``count`` frames that came, all by default, which are forgotten here."""
        with self.news:
            first = self.frames[:count]
            del self.frames[:count]
        return first

    def wait(self, count: int = 1, timeout: float = 20.0, queue: int = 0) -> list[WireFrame]:
        """Wait for ``count`` frames and take them. Raises TimeoutError after ``timeout`` seconds.

        A link that waits for a file descriptor is driven meanwhile: its ``queue`` only.
        """
        end = time.monotonic() + timeout
        watch = -1 if self.link is None else self.link.receive_fd(queue)
        while len(self.frames) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{len(self.frames)} of {count} frames came in {timeout} s")
            if watch >= 0:
                if self.deliver(queue) < 0:
                    wait_readable(watch, left)
                continue
            with self.news:
                if len(self.frames) < count:
                    self.news.wait(left)
        return self.take(count)

    def deliver(self, queue: int = 0, budget: int = BURST) -> int:
        """Have the link deliver what came for a queue; the number of frames, or a negative errno."""
        link = cython.declare(Link, self.link)
        result: cython.int
        number: cython.int = queue
        most: cython.int = budget
        with cython.nogil:
            result = link.receive(number, most)
        return result

    # What is sent.

    def send(
        self,
        frames: Sequence[bytes | WireFrame],
        *,
        queue: int = 0,
        cut: Sequence[int] | int | None = None,
        times: int = 1,
    ) -> int:
        """Put frames into the other end on this thread, as `put_frames` does; how many it took."""
        other = self.guest if self.link is None else self.link
        return 0 if other is None else put_frames(other, frames, queue, cut=cut, times=times)

    def offer(self, frames: Sequence[bytes | WireFrame]) -> None:
        """Have frames wait until the NIC fetches them."""
        self.waiting.extend(frame if isinstance(frame, WireFrame) else WireFrame(frame) for frame in frames)
        os.eventfd_write(self.fd, 1)

    @property
    def left(self) -> int:
        """Frames that were offered and not fetched."""
        return len(self.waiting)

    # What a NIC asks of its link.

    @property
    def name(self) -> str:
        """What log lines call it."""
        return "a test's wire"

    @property
    def accepts(self) -> int:
        """The offloads it was made with."""
        return self.offloads

    def receive_fd(self, queue: int) -> int:
        """Readable while frames wait."""
        return self.fd

    def receive(self, queue, budget):
        return self.fetch(queue, budget)

    def fetch(self, queue, budget):
        taken: cython.int
        if not self.waiting:
            with self.news:  # a NIC may still look while it is being closed
                if self.fd < 0:
                    return -EAGAIN
                try:
                    os.eventfd_read(self.fd)
                except BlockingIOError:
                    return -EAGAIN
            if not self.waiting:  # something may have been offered between the look and the reading
                return 0
        if self.guest is None:
            return -EAGAIN
        layout: Layout = Layout([self.waiting[i] for i in range(min(len(self.waiting), budget, BURST))], None)
        taken = layout.put(self.guest, queue)
        for _ in range(taken):
            self.waiting.popleft()
        if taken > 0:
            self.fetcher = threading.current_thread().name
        return taken if taken > 0 else -ENOSPC

    def close(self) -> None:
        """Give the file descriptor back."""
        with self.news:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1


def wait_readable(fd: int, seconds: float) -> None:
    """Wait until a descriptor has something to read, in whatever kind of set it is."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(seconds * 1000)
