"""A device in this process: the tests' own transport, with a thread that serves the rings as it is told."""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from virtio.drivers.memory import SharedRegion
from virtio.drivers.transport import Event, EventKind, QueueAddresses, QueueFds
from virtio.memory import GuestMemory, Mapping
from virtio.spec import blk
from virtio.spec import features as bits
from virtio.spec import status as status_bits
from virtio.virtqueue import device_queue

SECTORS = 4096
BLK_FEATURES = bits.mask(
    bits.VERSION_1,
    bits.RING_PACKED,
    bits.EVENT_IDX,
    bits.INDIRECT_DESC,
    blk.F_SEG_MAX,
    blk.F_BLK_SIZE,
    blk.F_FLUSH,
    blk.F_TOPOLOGY,
    blk.F_CONFIG_WCE,
    blk.F_MQ,
    blk.F_DISCARD,
    blk.F_WRITE_ZEROES,
)


def blk_config(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "capacity": SECTORS,
        "seg_max": 126,
        "blk_size": 512,
        "writeback": 1,
        "num_queues": 4,
        "topology": blk.Topology(physical_block_exp=3, min_io_size=8, opt_io_size=256),
        "max_discard_sectors": 1024,
        "max_discard_seg": 1,
        "max_write_zeroes_sectors": 1000,
        "max_write_zeroes_seg": 1,
        "write_zeroes_may_unmap": 1,
    }
    return blk.Config(**{**values, **changes}).pack()


@dataclass
class Served:
    """One queue as the device sees it."""

    addresses: QueueAddresses
    packed: bool
    kick: int
    call: int
    ring: Any = None
    thread: threading.Thread | None = None


@dataclass
class Loopback:
    """A `Transport` to a device that is a function: ``serve(readable, writable) -> bytes written``.

    ``rogue(transport, queue)`` takes the place of serving altogether. ``log`` tells what the driver did.
    """

    serve: Callable[[bytes, list[memoryview]], int] | None = None
    rogue: Callable[[Loopback, Served], None] | None = None
    features: int = BLK_FEATURES
    config: bytes = b""
    refuse_features: bool = False
    regions_allowed: int = 8
    queue_size: int = 256
    device_id: int | None = None
    log: list[str] = field(default_factory=list)
    accepted: int = 0
    memory: GuestMemory = field(default_factory=GuestMemory)
    regions: list[SharedRegion] = field(default_factory=list)
    queues: dict[int, Served] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._status = 0
        self._stop = os.eventfd(0)
        self._said: SimpleQueue[Event | None] = SimpleQueue()

    def device_features(self) -> int:
        self.log.append("features?")
        return self.features

    def set_driver_features(self, mask: int) -> None:
        self.log.append("features!")
        self.accepted = mask

    def status(self) -> int:
        return self._status

    def set_status(self, status: int) -> None:
        new = status & ~self._status
        self.log.append(status_bits.describe(new))
        if self.refuse_features:
            status &= ~status_bits.FEATURES_OK
        self._status = status
        if new & status_bits.DRIVER_OK:
            for queue in self.queues.values():
                self._start(queue)

    def config_generation(self) -> int | None:
        return None

    def read_config(self, offset: int, size: int) -> bytes:
        return self.config[offset : offset + size]

    def write_config(self, offset: int, data: bytes) -> None:
        self.config = self.config[:offset] + data + self.config[offset + len(data) :]

    def queue_limit(self) -> int | None:
        return 4

    def queue_max_size(self, index: int) -> int:
        return self.queue_size

    def share(self, region: SharedRegion) -> bool:
        if region in self.regions:
            return True
        if len(self.regions) >= self.regions_allowed:
            return False
        self.regions.append(region)
        mapping = Mapping.from_fd(region.fd, region.size, guest_address=region.guest_address)
        self.memory = self.memory.add(mapping)
        for queue in self.queues.values():
            if queue.ring is not None:
                queue.ring.set_memory(self.memory)
        return True

    def can_share_later(self) -> bool:
        return self.regions_allowed > 1

    def setup_queue(self, index: int, addresses: QueueAddresses, *, packed: bool) -> QueueFds:
        self.log.append(f"queue {index}")
        served = Served(addresses, packed, os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK))
        self.queues[index] = served
        return QueueFds(served.kick, served.call)

    def enable_queue(self, index: int, *, enabled: bool) -> None:
        self.log.append(f"queue {index} {'on' if enabled else 'off'}")

    def events(self) -> Iterator[Event]:
        while (event := self._said.get()) is not None:
            yield event
            if event.kind is EventKind.GONE:
                return

    def say(self, kind: EventKind, detail: str = "") -> None:
        """Have the device say something."""
        self._said.put(Event(kind, detail))

    def reset(self) -> None:
        self.log.append("reset")
        os.eventfd_write(self._stop, 1)
        for queue in self.queues.values():
            if queue.thread is not None:
                queue.thread.join()
            os.close(queue.kick)
            os.close(queue.call)
        os.eventfd_read(self._stop)
        os.eventfd_write(self._stop, 1)
        os.eventfd_read(self._stop)
        self.queues = {}
        self._status = 0

    def close(self) -> None:
        self.log.append("close")
        self._said.put(None)

    # The device's side.

    def _start(self, queue: Served) -> None:
        if self.rogue is not None:
            target = self.rogue
            queue.thread = threading.Thread(target=lambda: target(self, queue))
        else:
            at = queue.addresses
            queue.ring = device_queue(
                self.memory, at.size, at.descriptors, at.driver_area, at.device_area, features=self.accepted
            )
            queue.thread = threading.Thread(target=self._run, args=(queue,))
        queue.thread.start()

    def wait_kick(self, queue: Served) -> bool:
        """Until the driver kicks; False when told to stop."""
        ready = {fd for fd, _ in _poll(queue.kick, self._stop)}
        if self._stop in ready:
            return False
        os.eventfd_read(queue.kick)
        return True

    def _run(self, queue: Served) -> None:
        while True:
            while (chain := queue.ring.pop()) is not None:
                readable = b"".join(bytes(view) for view in chain.readable)
                assert self.serve is not None
                written = self.serve(readable, list(chain.writable))
                if written < 0:  # never finished
                    continue
                queue.ring.push(chain, written)
                if queue.ring.publish_used():
                    os.eventfd_write(queue.call, 1)
            if queue.ring.request_notifications():
                continue
            if not self.wait_kick(queue):
                return


def _poll(*fds: int) -> list[tuple[int, int]]:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return poller.poll()


class Disk:
    """A block device's behaviour over a bytearray, as plain as can be."""

    def __init__(self, sectors: int = SECTORS) -> None:
        self.data = bytearray(sectors * blk.SECTOR_SIZE)
        self.seen: list[int] = []
        self.status: dict[int, int] = {}
        self.lock = threading.Lock()

    def __call__(self, readable: bytes, writable: list[memoryview]) -> int:
        with self.lock:
            kind, _, sector = struct.unpack_from("<IIQ", readable)
            self.seen.append(kind)
            answer = self._act(kind, sector * blk.SECTOR_SIZE, readable[16:], sum(map(len, writable)) - 1)
            status = self.status.get(kind, blk.S_OK if answer is not None else blk.S_UNSUPP)
            return _scatter((answer or b"") + bytes([status]), writable)

    def _act(self, kind: int, at: int, data: bytes, room: int) -> bytes | None:
        if kind == blk.T_IN:
            return bytes(self.data[at : at + room])
        if kind == blk.T_OUT:
            self.data[at : at + len(data)] = data
        elif kind == blk.T_GET_ID:
            return b"loopback".ljust(room, b"\0")
        elif kind in (blk.T_DISCARD, blk.T_WRITE_ZEROES):
            sector, count, _ = struct.unpack("<QII", data)
            start = sector * blk.SECTOR_SIZE
            self.data[start : start + count * blk.SECTOR_SIZE] = bytes(count * blk.SECTOR_SIZE)
        elif kind != blk.T_FLUSH:
            return None
        return b""


def _scatter(data: bytes, views: list[memoryview]) -> int:
    at = 0
    for view in views:
        part = data[at : at + len(view)]
        view[: len(part)] = part
        at += len(part)
    return at
