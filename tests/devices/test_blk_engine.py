"""The engine without an attachment: what a transport will ask of it."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from virtio.devices.blk.disk import Disk
from virtio.devices.blk.engine import BlkEngine
from virtio.devices.blk.executor import Executor
from virtio.memory import GuestMemory, Mapping
from virtio.spec import blk as spec
from virtio.spec import features
from virtio.storage import MemoryStorage, Storage
from virtio.virtqueue import (
    SplitDeviceQueue,
    SplitDriverQueue,
    device_queue,
    driver_queue,
    packed_layout,
    split_layout,
)

SIZE = 1 << 20


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    yield GuestMemory([Mapping.from_fd(fd, SIZE)])
    os.close(fd)


def start(storage: Storage, queue: SplitDeviceQueue, **options: bool) -> tuple[BlkEngine, Executor]:
    disk = Disk(storage.backend, storage.size, name="disk", read_only=False, writeback=True, identity=b"id")
    executor = Executor(storage.backend)
    engine = BlkEngine(queue, disk, executor, **options)
    engine.configure(in_band=True, poll_us=0)
    engine.start()
    return engine, executor


def stop(engine: BlkEngine, executor: Executor) -> None:
    engine.stop_soon()
    assert engine.settle(10)
    engine.close()
    assert executor.close()


def collect(engine: BlkEngine, driver: SplitDriverQueue, count: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    deadline = time.monotonic() + 10
    while len(found) < count:
        engine.kick()
        found += driver.reap_completions()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return found


def test_a_legacy_driver_of_the_other_byte_order(memory: GuestMemory) -> None:
    areas = split_layout(16).addresses(0)
    driver = SplitDriverQueue(memory, 16, *areas, byte_order="big")
    with MemoryStorage(1 << 20) as storage:
        storage.write(0, memoryview(b"\xff" * (1 << 20)))
        storage.write(3 * 512, memoryview(b"s" * 512))
        queue = SplitDeviceQueue(memory, 16, *areas, byte_order="big")
        engine, executor = start(storage, queue, big_endian=True)
        memory.write(0x10000, struct.pack(">IIQ", spec.T_IN, 0, 3))
        assert driver.add_buffers([(0x10000, 16)], [(0x11000, 512), (0x12000, 1)], 1)
        memory.write(0x20000, struct.pack(">IIQQII", spec.T_WRITE_ZEROES, 0, 0, 8, 2, 1))
        assert driver.add_buffers([(0x20000, 32)], [(0x22000, 1)], 2)
        driver.publish_added()
        assert sorted(collect(engine, driver, 2)) == [(1, 513), (2, 1)]
        assert memory.read(0x11000, 512) == b"s" * 512
        found = bytearray(12 * 512)
        storage.read(0, memoryview(found))
        assert found[7 * 512 : 11 * 512] == b"\xff" * 512 + bytes(1024) + b"\xff" * 512
        stop(engine, executor)


def test_the_threads_go_when_the_work_is_done(memory: GuestMemory) -> None:
    class Plain(Storage):
        def read(self, offset: int, buffer: memoryview) -> None:
            time.sleep(0.01)
            buffer[:] = bytes([offset // 512]) * len(buffer)

    areas = split_layout(64).addresses(0)
    driver = SplitDriverQueue(memory, 64, *areas)
    engine, executor = start(Plain(1 << 20), SplitDeviceQueue(memory, 64, *areas))
    for i in range(20):
        memory.write(0x10000 + i * 16, struct.pack("<IIQ", spec.T_IN, 0, i))
        buffers = [(0x20000 + i * 512, 512), (0x12000 + i, 1)]
        assert driver.add_buffers([(0x10000 + i * 16, 16)], buffers, i)
    driver.publish_added()
    assert sorted(collect(engine, driver, 20)) == [(i, 513) for i in range(20)]
    assert 1 <= executor.threads <= executor.limit
    assert memory.read(0x20000, 20 * 512) == b"".join(bytes([i]) * 512 for i in range(20))
    stop(engine, executor)
    assert executor.threads == 0


class OnError(logging.Handler):
    """Does something on the engine's own thread in the middle of a batch: when it logs a failure."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act
        self.done = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.act()
        self.done.set()


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_is_seen_in_parts_and_notified_twice_at_most(memory: GuestMemory, packed: bool) -> None:
    modern = features.mask(features.VERSION_1) | packed << features.RING_PACKED
    layout = packed_layout(64) if packed else split_layout(64)
    areas = layout.addresses(0)
    driver = driver_queue(memory, 64, *areas, features=modern)
    driver.request_notifications()
    seen: list[int] = []
    handler = OnError(lambda: seen.append(len(driver.reap_completions())))
    logging.getLogger("virtio.blk").addHandler(handler)
    with MemoryStorage(64 << 10) as storage:
        # The last one lies beyond the storage, which only the storage knows.
        for i, sector in enumerate([*range(0, 40, 2), 1 << 40]):
            memory.write(0x10000 + i * 16, struct.pack("<IIQ", spec.T_IN, 0, sector))
            buffers = [(0x20000 + i * 512, 512), (0x12000 + i, 1)]
            assert driver.add_buffers([(0x10000 + i * 16, 16)], buffers, i)
        driver.publish_added()
        disk = Disk(storage.backend, 1 << 50, name="d", read_only=False, writeback=True, identity=b"")
        executor = Executor(storage.backend)
        engine = BlkEngine(device_queue(memory, 64, *areas, features=modern), disk, executor)
        engine.configure(in_band=True, poll_us=0)
        engine.start()
        assert handler.done.wait(10)
        rest = collect(engine, driver, 21 - 16)
        stats = engine.stats()
        stop(engine, executor)
    logging.getLogger("virtio.blk").removeHandler(handler)
    assert (seen, len(rest)) == ([16], 5)
    assert stats["batches"] == 1
    assert 1 <= stats["notifications"] <= 2
