"""Frames in and out of links, from Python: a NIC's two ends without a NIC.

>>> from virtio.network import open_link
>>> link, guest = open_link("loop:"), CollectSink()
>>> link.connect(guest)
>>> put_frames(link, [b"one frame", b"another"])
2
>>> [frame for frame, header in guest.frames]
[b'one frame', b'another']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cython
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.network.frame import BURST, Frame, NetHeader
from cython.cimports.virtio.network.link import Link, Sink

__all__ = ["CollectSink", "put_frames", "receive_frames"]

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do

HEADER_FIELDS = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")


@cython.cfunc
def as_bytes(frame: cython.pointer[cython.const[Frame]]) -> bytes:
    """The frame's segments, joined."""
    i: cython.int
    parts: list = []
    for i in range(frame.count):
        parts.append(cython.cast(cython.p_char, frame.segments[i].iov_base)[: frame.segments[i].iov_len])
    return b"".join(parts)


@cython.cfunc
def as_dict(header: cython.pointer[cython.const[NetHeader]]) -> dict:
    values = (
        header.flags, header.gso_type, header.hdr_len, header.gso_size, header.csum_start, header.csum_offset,
    )  # fmt: skip
    return dict(zip(HEADER_FIELDS, values, strict=True))


class CollectSink(Sink):
    """Keeps what it is given in ``frames``, as bytes and header; with ``limit``, only so many."""

    def __init__(self, limit: object = None) -> None:
        self.frames = []
        self.limit = limit

    def put(self, queue, frames, count):
        taken: cython.int = 0
        with cython.gil:
            while taken < count and (self.limit is None or len(self.frames) < self.limit):
                frame: bytes = as_bytes(frames + taken)
                if len(frame) != frames[taken].length:
                    raise AssertionError(f"a frame of {frames[taken].length} bytes has {len(frame)}")
                self.frames.append((frame, as_dict(cython.address(frames[taken].header))))
                taken += 1
        return taken

    def clear(self) -> None:
        """Forget what came so far."""
        self.frames.clear()


@cython.cfunc
@cython.exceptval(-1)
def lay_out(
    segments: cython.pointer[iovec], base: cython.p_char, length: cython.size_t, cut: object
) -> cython.int:
    """Describe a frame as segments that end at the positions in ``cut``; how many there are."""
    count: cython.int = 0
    start: cython.size_t = 0
    end: cython.size_t
    for position in [*cut, length]:
        end = min(position, length)
        segments[count].iov_base = base + start
        segments[count].iov_len = end - start
        start = end
        count += 1
    return count


@cython.cfunc
@cython.exceptval(-1)
def offer(
    sink: Sink,
    frames: list,
    queue: cython.int,
    header: cython.pointer[cython.const[NetHeader]],
    cut: object,
    times: cython.int,
) -> cython.int:
    total: cython.int = len(frames)
    width: cython.int = len(cut) + 1
    done: cython.int = 0
    taken: cython.int = 0
    count: cython.int = 0
    i: cython.int
    described = cython.cast(cython.pointer[Frame], malloc(max(total, 1) * cython.sizeof(Frame)))
    segments = cython.cast(cython.pointer[iovec], malloc(max(total, 1) * width * cython.sizeof(iovec)))
    try:
        if described == cython.NULL or segments == cython.NULL:
            raise MemoryError
        for i in range(total):
            data: bytes = frames[i]
            described[i].segments = segments + i * width
            described[i].count = lay_out(segments + i * width, data, len(data), cut)
            described[i].length = len(data)
            described[i].header = header[0]
        with cython.nogil:
            while times > 0 and taken == count:
                times -= 1
                i = 0
                while i < total and taken == count:
                    count = min(total - i, BURST)
                    taken = sink.put(queue, described + i, count)
                    done += taken
                    i += count
        return done
    finally:
        free(described)
        free(segments)


def put_frames(
    sink: Sink,
    frames: Sequence[bytes],
    queue: int = 0,
    header: Mapping[str, int] | None = None,
    cut: Sequence[int] = (),
    times: int = 1,
) -> int:
    """Put frames into ``sink`` as a NIC would, and once more until that was done ``times``; how many it took.

    ``header`` has fields of virtio_net_hdr, the same for all of them; what is not given is zero. ``cut`` has
    the positions in each frame at which a further segment begins. Ends when ``sink`` has no room.
    """
    fields = cython.declare(NetHeader)
    given = {**dict.fromkeys(HEADER_FIELDS, 0), **(header or {})}
    memset(cython.address(fields), 0, cython.sizeof(NetHeader))
    fields.flags = given["flags"]
    fields.gso_type = given["gso_type"]
    fields.hdr_len = given["hdr_len"]
    fields.gso_size = given["gso_size"]
    fields.csum_start = given["csum_start"]
    fields.csum_offset = given["csum_offset"]
    return offer(sink, list(frames), queue, cython.address(fields), cut, times)


def receive_frames(link: Link, queue: int = 0, budget: int = 64) -> int:
    """Do what a NIC does when ``link.receive_fd(queue)`` is readable; frames moved, or a negative errno."""
    moved: cython.int
    at: cython.int = queue
    most: cython.int = budget
    with cython.nogil:
        moved = link.receive(at, most)
    return moved
