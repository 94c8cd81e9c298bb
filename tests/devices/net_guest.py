"""A network driver of the test's own, over the rings of `ring_guest.Guest`."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from virtio.devices.net import Net
from virtio.network import Link
from virtio.spec import net as spec
from virtio.spec.features import mask


def open_net(link: Link, **options: Any) -> Net:
    """A NIC without receive filters: its driver gets every frame, whatever its address."""
    device = Net(link, **options)
    device.features &= ~mask(spec.F_CTRL_RX, spec.F_CTRL_RX_EXTRA, spec.F_CTRL_VLAN)
    return device


def header(
    flags: int = 0,
    gso_type: int = 0,
    hdr_len: int = 0,
    gso_size: int = 0,
    csum_start: int = 0,
    csum_offset: int = 0,
    *,
    length: int = 12,
    order: str = "<",
) -> bytes:
    """What precedes a frame that is sent."""
    return struct.pack(f"{order}BBHHHHH", flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, 0)[
        :length
    ].ljust(length, b"\0")


def await_worker(guest: Any, queue: int) -> None:
    """Wait until the worker of a receive queue lets frames in: before that there is no room for any."""
    deadline = time.monotonic() + 20
    while (stats := guest.attachment.vrings[queue].stats()) and not stats["sleeps"] and not stats["batches"]:
        assert time.monotonic() < deadline
        time.sleep(0.0005)


class Received:
    """A received frame: its header's fields, and the buffers it came in."""

    def __init__(self, parts: list[bytes], length: int, order: str = "<") -> None:
        whole = b"".join(parts)
        self.data = whole[length:]
        fields = struct.unpack(f"{order}BBHHHH", whole[:10])
        self.flags, self.gso_type, self.hdr_len, self.gso_size, self.csum_start, self.csum_offset = fields
        self.buffers = struct.unpack(f"{order}H", whole[10:12])[0] if length >= 12 else 1
        self.hash = struct.unpack(f"{order}IH", whole[12:18]) if length >= 20 else (0, 0)


class Nic:
    """Receives and sends with one pair of queues of a guest."""

    def __init__(self, guest: Any, *, pair: int = 0, length: int = 12, order: str = "<") -> None:
        self.guest = guest
        self.length = length
        self.order = order
        self.receiveq, self.transmitq = 2 * pair, 2 * pair + 1
        self.posted: list[int] = []

    def post(self, count: int, *sizes: int) -> None:
        """Offer ``count`` receive buffers, each cut into parts of ``sizes``."""
        self.posted += [self.guest.submit((), sizes or (2048,), queue=self.receiveq) for _ in range(count)]
        self.guest.kick(self.receiveq)
        await_worker(self.guest, self.receiveq)

    def take(self, count: int) -> list[Received]:
        """The next ``count`` frames, in order."""
        frames = []
        for _ in range(count):
            parts = [self._next()]
            frame = Received(parts, self.length, self.order)
            while len(parts) < frame.buffers:
                parts.append(self._next())
            frames.append(Received(parts, self.length, self.order))
        return frames

    def _next(self) -> bytes:
        answer = self.guest.wait(self.posted.pop(0))[0]
        return b"".join(answer.parts)[: answer.used]

    def send(self, *frames: bytes, head: bytes | None = None, parts: Sequence[int] = ()) -> list[int]:
        """Send frames behind ``head``, cut at ``parts``: their used lengths, once the buffers are back."""
        tokens = []
        for frame in frames:
            data = (header(length=self.length) if head is None else head) + frame
            cuts = [0, *parts, len(data)]
            chain = [data[a:b] for a, b in pairwise(cuts)]
            tokens.append(self.guest.submit(chain, (), queue=self.transmitq))
        self.guest.kick(self.transmitq)
        return [answer.used for answer in self.guest.wait(*tokens)]
