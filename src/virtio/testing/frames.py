"""A NIC made of Python lists, for tests of links and filters.

>>> from virtio.network import open_link
>>> nic = CollectSink(open_link("loop:"))
>>> nic.put_frames([b"an Ethernet frame"])
1
>>> [frame.data for frame in nic.take()]
[b'an Ethernet frame']
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.network.frame import Frame, NetHeader

__all__ = ["NO_HEADER", "CollectSink", "Collected", "Header"]


class Header(NamedTuple):
    """What of a frame is still to be computed (virtio 1.4, Network Device, Device Operation)."""

    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


NO_HEADER = Header()


class Collected(NamedTuple):
    """A frame that came."""

    data: bytes
    header: Header
    queue: int


class CollectSink:
    """Connects to ``link`` as a NIC with ``queues`` pairs, and keeps in a list what comes.

    ``room`` is the number of frames that still fit, None for any.
    """

    def __init__(self, link=None, queues: int = 1, *, room: int | None = None) -> None:
        self.waiting = []
        self.news = threading.Condition()
        self.room = room
        self.link = link
        if link is not None:
            link.connect(self, queues)

    def put(self, queue, frames, count):
        with cython.gil:
            return self.collect(queue, frames, count)

    def collect(self, queue, frames, count):
        """Copy the frames that fit."""
        i: cython.int
        with self.news:
            if self.room is not None:
                count = min(count, self.room)
                self.room -= count
            for i in range(count):
                self.waiting.append(copy_of(queue, cython.address(frames[i])))
            self.news.notify_all()
        return count

    def put_frames(
        self,
        frames: Sequence[bytes],
        queue: int = 0,
        *,
        headers: Sequence[Header] = (),
        piece: int = 65536,
        sink=None,
    ) -> int:
        """Send frames into the link, or into ``sink``; the number taken.

        ``headers`` are those of the frames, none for frames that are complete. Each frame lies in pieces of
        ``piece`` bytes.
        """
        return send(sink if sink is not None else self.link, queue, list(frames), list(headers), piece)

    def receive(self, queue: int = 0, budget: int = 64) -> int:
        """Have the link deliver; the number of frames, or a negative errno."""
        link = cython.declare(Link, self.link)
        result: cython.int
        number: cython.int = queue
        most: cython.int = budget
        with cython.nogil:
            result = link.receive(number, most)
        return result

    def take(self) -> list[Collected]:
        """The frames that came, which are forgotten here."""
        with self.news:
            taken = self.waiting
            self.waiting = []
        return taken

    def wait(self, count: int = 1, timeout: float = 10.0, queue: int = 0) -> list[Collected]:
        """Wait for ``count`` frames, driving the link if it needs that. Raises TimeoutError."""
        end = time.monotonic() + timeout
        watch = self.link.receive_fd(queue)
        while len(self.waiting) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{len(self.waiting)} frames of {count}")
            if watch < 0:
                with self.news:
                    if len(self.waiting) < count:
                        self.news.wait(left)
            elif self.receive(queue) < 0:
                wait_readable(watch, left)
        return self.take()


def wait_readable(fd: int, seconds: float) -> None:
    """Wait until a descriptor has something to read, in whatever kind of set it is."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(seconds * 1000)


@cython.cfunc
def copy_of(queue: cython.int, frame: cython.pointer[cython.const[Frame]]):
    i: cython.int
    parts = []
    for i in range(frame.count):
        start = cython.cast(cython.p_char, frame.segments[i].iov_base)
        parts.append(PyBytes_FromStringAndSize(start, frame.segments[i].iov_len))
    header: NetHeader = frame.header
    return Collected(
        b"".join(parts),
        Header(
            header.flags,
            header.gso_type,
            header.hdr_len,
            header.gso_size,
            header.csum_start,
            header.csum_offset,
        ),
        queue,
    )


@cython.cfunc
def send(sink: Sink, queue: cython.int, frames: list, headers: list, piece: cython.Py_ssize_t):
    """Lay the frames out in memory, as pieces, and put them."""
    taken: cython.int
    count: cython.int = len(frames)
    pieces: cython.int = sum([(len(frame) + piece - 1) // piece for frame in frames])
    table = cython.cast(cython.pointer[Frame], calloc(count + 1, cython.sizeof(Frame)))
    segments = cython.cast(cython.pointer[iovec], calloc(pieces + 1, cython.sizeof(iovec)))
    try:
        lay_out(table, segments, frames, headers, piece)
        with cython.nogil:
            taken = sink.put(queue, table, count)
    finally:
        free(table)
        free(segments)
    return taken


@cython.cfunc
def lay_out(
    table: cython.pointer[Frame],
    segments: cython.pointer[iovec],
    frames: list,
    headers: list,
    piece: cython.Py_ssize_t,
):
    used: cython.int = 0
    at: cython.Py_ssize_t
    data: bytes
    for number, data in enumerate(frames):
        frame: cython.pointer[Frame] = cython.address(table[cython.cast(cython.int, number)])
        frame.segments = cython.address(segments[used])
        frame.length = len(data)
        at = 0
        while at < len(data):
            segments[used].iov_base = cython.cast(cython.p_char, data) + at
            segments[used].iov_len = min(piece, len(data) - at)
            at += segments[used].iov_len
            frame.count += 1
            used += 1
        if headers:
            frame.header = header_of(headers[number])


@cython.cfunc
def header_of(values) -> NetHeader:
    header = cython.declare(NetHeader)
    header.flags, header.gso_type, header.hdr_len = values[0], values[1], values[2]
    header.gso_size, header.csum_start, header.csum_offset = values[3], values[4], values[5]
    return header
