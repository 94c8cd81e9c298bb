"""A guest of the test's own: memory, rings and a driver's end of each, attached to a device."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from virtio.device import Attachment, Device
from virtio.errors import VirtioError
from virtio.memory import GuestMemory, Mapping
from virtio.spec import features as feature_bits
from virtio.virtqueue import driver_queue, packed_layout, split_layout

MEMORY = 64 << 20
ARENA = 4 << 20  # where request buffers begin
BASE = 0x1_0000_0000  # the guest's first address


@dataclass
class Answer:
    """What came back of a chain: each writable buffer's bytes, and the used length."""

    parts: list[bytes]
    used: int

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)[:-1]

    @property
    def status(self) -> int:
        return self.parts[-1][-1]


class Guest:
    """Drives one device through rings in memory of its own; each wait is bounded."""

    def __init__(
        self,
        device: Device,
        *,
        features: int | None,
        size: int,
        legacy: bool,
        packed: bool,
        poll_us: int,
        queues: Sequence[int] | None,
    ) -> None:
        self.fd = os.memfd_create("guest")
        self.fds = [self.fd]
        os.ftruncate(self.fd, MEMORY)
        self.memory = GuestMemory([Mapping.from_fd(self.fd, MEMORY, guest_address=BASE)])
        self.faults: list[VirtioError] = []
        self.config_changes = 0
        self.attachment = Attachment(
            device,
            on_fault=lambda index, error: self.faults.append(error),
            on_config_change=self._count_change,
            poll_us=poll_us,
        )
        if features is None:
            features = self.attachment.offered_features
        if packed:
            features |= feature_bits.mask(feature_bits.RING_PACKED)
        else:
            features &= ~feature_bits.mask(feature_bits.RING_PACKED)
        if legacy:
            features &= ~feature_bits.mask(feature_bits.VERSION_1)
        self.attachment.set_features(features)
        self.attachment.set_memory(self.memory)
        self._next = BASE + ARENA
        self._tokens = 0
        self._writable: dict[int, list[tuple[int, int]]] = {}
        self._done: dict[int, Answer] = {}
        self.drivers = []
        self.calls = []
        for index, vring in enumerate(self.attachment.vrings):
            layout = packed_layout(size) if packed else split_layout(size)
            addresses = layout.addresses(BASE + index * 0x40000)
            self.drivers.append(driver_queue(self.memory, size, *addresses, features=features))
            call = os.eventfd(0, os.EFD_NONBLOCK)
            self.calls.append(call)
            self.fds.append(call)
            if queues is not None and index not in queues:
                continue
            vring.set_size(size)
            vring.set_addresses(*addresses)
            vring.set_kick(None, in_band=True)
            vring.set_call(os.dup(call))
            vring.set_enabled(True)
            vring.start()

    def _count_change(self) -> None:
        self.config_changes += 1

    def close(self) -> None:
        self.attachment.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def recycle(self) -> None:
        """Use the arena from its beginning again, while nothing is in flight."""
        assert not self._writable
        self._next = BASE + ARENA

    def place(self, length: int, *, at: int = 0) -> int:
        """Room for a buffer; ``at`` bytes past a page boundary."""
        if self._next + length + 8192 > BASE + MEMORY:
            assert not self._writable, "the arena is full"
            self._next = BASE + ARENA
        address = self._next + at
        self._next = (address + length + 4095) & ~4095
        return address

    def submit(
        self, readable: Sequence[bytes], writable: Sequence[int], *, queue: int = 0, at: int = 0
    ) -> int:
        """Offer a chain without telling the device. Its token."""
        sources = []
        for data in readable:
            address = self.place(len(data), at=at)
            self.memory.write(address, data)
            sources.append((address, len(data)))
        targets = []
        for length in writable:
            address = self.place(length, at=at)
            self.memory.write(address, b"\xee" * length)
            targets.append((address, length))
        token = self._tokens = self._tokens + 1
        assert self.drivers[queue].add_buffers(sources, targets, token) is not False
        self._writable[token] = targets
        return token

    def kick(self, queue: int = 0) -> None:
        self.drivers[queue].publish_added()
        self.attachment.vrings[queue].kick()

    def wait(self, *tokens: int, timeout: float = 20) -> list[Answer]:
        """What became of the chains, once all are used."""
        self._wait_until(lambda: all(token in self._done for token in tokens), timeout)
        return [self._done.pop(token) for token in tokens]

    def wait_any(self, tokens: Sequence[int], timeout: float = 20) -> int:
        """The first of the chains that is used."""
        self._wait_until(lambda: any(token in self._done for token in tokens), timeout)
        token = next(token for token in tokens if token in self._done)
        del self._done[token]
        return token

    def _wait_until(self, satisfied: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not satisfied():
            assert not self.faults, self.faults
            if sum(map(self._reap, self.drivers)) == 0:
                ready = any(driver.request_notifications() for driver in self.drivers)
                if not ready:
                    left = deadline - time.monotonic()
                    assert left > 0, "the device did not answer"
                    select.select(self.calls, [], [], min(left, 0.5))
                    for call in self.calls:
                        try:
                            os.eventfd_read(call)
                        except BlockingIOError:
                            continue

    def _reap(self, driver) -> bool:  # type: ignore[no-untyped-def]
        completions = driver.reap_completions()
        for token, used in completions:
            parts = [self.memory.read(address, length) for address, length in self._writable.pop(token)]
            self._done[token] = Answer(parts, used)
        return bool(completions)

    def ask(
        self, readable: Sequence[bytes], writable: Sequence[int], *, queue: int = 0, at: int = 0
    ) -> Answer:
        token = self.submit(readable, writable, queue=queue, at=at)
        self.kick(queue)
        return self.wait(token)[0]
