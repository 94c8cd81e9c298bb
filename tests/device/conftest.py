"""A guest in miniature: memory in a memfd, driver-side rings, and eventfds, around an Attachment."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

import pytest

from virtio.device import Attachment, Device, Vring
from virtio.memory import GuestMemory, Mapping
from virtio.spec import features as bits
from virtio.virtqueue import packed_layout, split_layout
from virtio.virtqueue.make import driver_queue

BASE = 0x100000  # guest address of the first byte
USER = 0x7F1200000000  # the same as the front-end's process names it
SIZE = 4 << 20
RING_BYTES = 0x10000  # for each ring
MODERN = bits.mask(bits.VERSION_1, bits.EVENT_IDX, bits.INDIRECT_DESC)
EVENTFD = os.EFD_NONBLOCK | os.EFD_CLOEXEC


class Ring:
    """The driver's end of one queue, and what a guest does with it."""

    def __init__(self, guest: Guest, index: int, size: int) -> None:
        self.guest = guest
        self.size = size
        self.vring: Vring = guest.attachment.vrings[index]
        self.kick_fd = os.eventfd(0, EVENTFD)
        self.call_fd = os.eventfd(0, EVENTFD)
        self.err_fd = os.eventfd(0, EVENTFD)
        packed = guest.attachment.features >> bits.RING_PACKED & 1
        layout = packed_layout(size) if packed else split_layout(size)
        self.areas = layout.addresses(BASE + index * RING_BYTES)
        guest.memory.write(BASE + index * RING_BYTES, bytes(RING_BYTES))
        self.queue = driver_queue(guest.memory, size, *self.areas, features=guest.attachment.features)
        self.slots: dict[int, tuple[list[tuple[int, int]], int]] = {}
        self.next_token = 0

    def set_up(self, *, user: bool = False, enable: bool = True) -> Ring:
        """What a transport does to get the queue going."""
        vring = self.vring
        vring.set_size(self.size)
        vring.set_addresses(*[a - BASE + USER if user else a for a in self.areas], user=user)
        vring.set_kick(os.dup(self.kick_fd))
        vring.set_call(os.dup(self.call_fd))
        vring.set_err(os.dup(self.err_fd))
        vring.start()
        vring.set_enabled(enable)
        return self

    def add(self, data: bytes = b"", room: int = 0, *, pieces: int = 1) -> int:
        """Offer a request, each of its parts in ``pieces`` buffers that do not touch. Its token."""
        readable = self.guest.scatter(data, pieces)
        writable = self.guest.scatter(bytes(room), pieces)
        token, self.next_token = self.next_token, self.next_token + 1
        assert self.queue.add_buffers(readable, writable, token)
        self.slots[token] = (writable, room)
        return token

    def kick(self) -> None:
        if self.queue.publish_added():
            os.eventfd_write(self.kick_fd, 1)

    def reap(self, count: int, timeout: float = 5.0) -> dict[int, bytes]:
        """Sleep until ``count`` requests are done; their written bytes by token, in order of completion."""
        done: dict[int, bytes] = {}
        deadline = time.monotonic() + timeout
        while len(done) < count:
            for token, written in self.queue.reap_completions():
                done[token] = self.guest.gather(self.slots.pop(token)[0])[:written]
            if len(done) < count and not self.queue.request_notifications():
                left = deadline - time.monotonic()
                assert left > 0, f"{len(done)} of {count} requests done after {timeout} s"
                select.select([self.call_fd], [], [], left)
                if select.select([self.call_fd], [], [], 0)[0]:
                    os.eventfd_read(self.call_fd)
        return done

    def ask(self, data: bytes = b"", room: int = 0, *, pieces: int = 1) -> bytes:
        token = self.add(data, room, pieces=pieces)
        self.kick()
        return self.reap(1)[token]

    def close(self) -> None:
        for fd in (self.kick_fd, self.call_fd, self.err_fd):
            os.close(fd)


class Guest:
    """Memory, an attachment and its rings."""

    def __init__(self, device: Device, *, features: int = MODERN, **options: object) -> None:
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, SIZE)
        self.memory = self.map()
        self.faults: list[tuple[int, Exception]] = []
        self.config_changes = 0
        self.attachment = Attachment(
            device,
            on_config_change=self._changed,
            on_fault=self._fault,
            **options,  # type: ignore[arg-type]
        )
        self.negotiate(features)
        self.attachment.set_memory(self.memory)
        self.rings: list[Ring] = []
        self.rewind()

    def _changed(self) -> None:
        self.config_changes += 1

    def _fault(self, index: int, error: Exception) -> None:
        self.faults.append((index, error))

    def negotiate(self, features: int) -> None:
        self.attachment.set_features(features & self.attachment.offered_features)

    def map(self, size: int = SIZE) -> GuestMemory:
        return GuestMemory([Mapping.from_fd(self.fd, size, guest_address=BASE, user_address=USER)])

    def rewind(self) -> None:
        """Hand out buffers from the start again."""
        self.top = BASE + 16 * RING_BYTES

    def ring(self, index: int = 0, size: int = 64) -> Ring:
        self.rings.append(Ring(self, index, size))
        return self.rings[-1]

    def scatter(self, data: bytes, pieces: int) -> list[tuple[int, int]]:
        step = -(-len(data) // pieces)
        buffers = []
        for start in range(0, len(data), max(step, 1)):
            part = data[start : start + step]
            if self.top + len(part) + 8 > BASE + SIZE:
                self.rewind()
            self.memory.write(self.top, part)
            buffers.append((self.top, len(part)))
            self.top += len(part) + 8
        return buffers

    def gather(self, buffers: list[tuple[int, int]]) -> bytes:
        return b"".join(self.memory.read(address, length) for address, length in buffers)

    def close(self) -> None:
        self.attachment.close()
        self.attachment.device.close()
        for ring in self.rings:
            ring.close()
        os.close(self.fd)


@pytest.fixture
def guest() -> Iterator[object]:
    """Makes guests, and closes them."""
    guests: list[Guest] = []

    def make(device: Device, **options: object) -> Guest:
        guests.append(Guest(device, **options))  # type: ignore[arg-type]
        return guests[-1]

    yield make
    for one in guests:
        one.attachment.close()
    for one in guests:
        one.close()


def wait_until(condition, timeout: float = 5.0) -> None:
    """Look every millisecond until ``condition()`` holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.001)


@pytest.fixture(name="wait_until")
def wait_until_fixture():
    return wait_until
