"""A link whose other end is a test: it sends the NIC frames, and keeps what the NIC's driver sent.

>>> wire = Wire()
>>> wire.send([bytes(60)])      # nobody is connected
0
"""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass

import cython
from cython.cimports.libc.errno import EAGAIN, ENOSPC
from cython.cimports.libc.string import memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.network.frame import BURST, Frame
from cython.cimports.virtio.network.link import Link
from cython.cimports.virtio.network.offload import copy_out

from virtio.errors import UsageError

__all__ = ["Seen", "Wire"]


@dataclass(frozen=True)
class Seen:
    """A frame, and what its header said is still to be done. To send one, the header may be left out."""

    data: bytes
    queue: int = 0
    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


class Wire(Link):
    """A link that a test holds the other end of.

    ``offloads`` are the feature bits that it `accepts`. With ``readable`` it has a file descriptor, and what
    is queued with `offer` waits until the NIC fetches it; else `send` delivers on the calling thread.
    """

    def __init__(self, *, offloads: int = 0, readable: bool = False) -> None:
        Link.__init__(self)
        self.offloads = offloads
        self.taken = []
        self.waiting = deque()
        self.condition = threading.Condition()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if readable else -1

    @property
    def name(self) -> str:
        """What log lines call it."""
        return "a test's wire"

    @property
    def accepts(self) -> int:
        """The offloads it was made with."""
        return self.offloads

    # What comes from the NIC.

    def put(self, queue, frames, count):
        if self.full:
            return 0
        self.keep(queue, frames, count)
        return count

    def keep(self, queue, frames, count):
        i: cython.int
        seen: list = []
        for i in range(count):
            copy = bytearray(frames[i].length)
            view: cython.p_char = copy
            copy_out(frames + i, 0, view, frames[i].length)
            head = frames[i].header
            seen.append(
                Seen(
                    bytes(copy),
                    queue,
                    head.flags,
                    head.gso_type,
                    head.hdr_len,
                    head.gso_size,
                    head.csum_start,
                    head.csum_offset,
                )
            )
        with self.condition:
            self.taken.extend(seen)
            self.condition.notify_all()

    def refuse(self, refusing: bool) -> None:
        """Have no room for what the NIC sends, or some again."""
        self.full = refusing

    def wait(self, count: int, timeout: float = 20.0) -> list[Seen]:
        """The first ``count`` frames that the NIC sent and nobody asked for yet. Raises TimeoutError."""
        with self.condition:
            if not self.condition.wait_for(lambda: len(self.taken) >= count, timeout):
                raise TimeoutError(f"{len(self.taken)} of {count} frames came in {timeout} s")
            first = self.taken[:count]
            del self.taken[:count]
            return first

    # What goes to the NIC.

    def send(self, frames: list[bytes | Seen], *, queue: int = 0) -> int:
        """Put frames into the NIC on this thread, at most 64. How many it took.

        The bytes of each are spread over several places, as far as there are enough.
        """
        if self.guest is None:
            return 0
        sources = [frame if isinstance(frame, Seen) else Seen(frame) for frame in frames]
        count: cython.int = self.prepare(sources)
        number: cython.int = queue
        with cython.nogil:
            taken: cython.int = self.guest.put(number, self.ready, count)
        return taken

    def offer(self, frames: list[bytes | Seen]) -> None:
        """Have frames wait until the NIC fetches them."""
        self.waiting.extend(frame if isinstance(frame, Seen) else Seen(frame) for frame in frames)
        os.eventfd_write(self.fd, 1)

    @property
    def left(self) -> int:
        """Frames that were offered and not fetched."""
        return len(self.waiting)

    def receive_fd(self, queue: int) -> int:
        """Readable while frames wait."""
        return self.fd

    def receive(self, queue, budget):
        return self.fetch(queue, budget)

    def fetch(self, queue, budget):
        count: cython.int = min(len(self.waiting), budget, BURST)
        taken: cython.int = 0
        if count == 0:
            try:
                os.eventfd_read(self.fd)
            except OSError:  # nothing there, or closed while the NIC still looks
                return -EAGAIN
            return 0
        self.prepare([self.waiting[i] for i in range(count)])
        if self.guest is None:
            return -EAGAIN
        taken = self.guest.put(queue, self.ready, count)
        for _ in range(taken):
            self.waiting.popleft()
        return taken if taken > 0 else -ENOSPC

    def prepare(self, frames: list) -> cython.int:
        """Describe frames, which must live until they were put."""
        if len(frames) > BURST:
            raise UsageError(f"at most {BURST} frames at once, not {len(frames)}")
        for index, source in enumerate(frames):
            self._describe(index, source)
        return len(frames)

    def _describe(self, index: int, source: Seen) -> None:
        at: cython.int = index
        frame: cython.pointer[Frame] = cython.address(self.ready[at])
        place: cython.pointer[iovec] = self.places[at]
        data: bytes = source.data
        start: cython.p_char = data
        length: cython.int = len(data)
        part: cython.int = length // PARTS
        i: cython.int
        memset(frame, 0, cython.sizeof(Frame))
        for i in range(PARTS):
            place[i].iov_base = start + i * part
            place[i].iov_len = part if i + 1 < PARTS else length - (PARTS - 1) * part
        frame.segments = place
        frame.count = PARTS
        if index % 2 == 0:  # every other one in one piece
            place[0].iov_len = length
            frame.count = 1
        frame.length = length
        frame.header.flags = source.flags
        frame.header.gso_type = source.gso_type
        frame.header.hdr_len = source.hdr_len
        frame.header.gso_size = source.gso_size
        frame.header.csum_start = source.csum_start
        frame.header.csum_offset = source.csum_offset

    def close(self) -> None:
        """Give the file descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
