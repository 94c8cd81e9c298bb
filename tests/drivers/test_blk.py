"""The block driver's requests, byte for byte."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from loopback import BLK_FEATURES, SECTORS, Disk, Loopback, blk_config

from virtio.drivers import Blk
from virtio.errors import (
    ArenaExhaustedError,
    DeviceError,
    DeviceIOError,
    DeviceTimeoutError,
    UnsupportedRequestError,
    UsageError,
)
from virtio.spec import blk
from virtio.spec import features as bits

Connect = Callable[..., Blk]


def loopback(disk: Disk | None = None, **changes: Any) -> Loopback:
    return Loopback(**{"serve": disk or Disk(), "config": blk_config(), **changes})


def test_what_is_written_is_read(connect: Connect, packed: bool) -> None:
    model = Disk()
    disk = connect(loopback(model), packed=packed)
    disk.write(1024, b"a" * 512 + b"b" * 512)
    assert disk.read(512, 2048) == bytes(512) + b"a" * 512 + b"b" * 512 + bytes(512)
    assert model.data[1024:2048] == b"a" * 512 + b"b" * 512


def test_transfers_larger_than_requests_queues_and_windows(connect: Connect, packed: bool) -> None:
    model = Disk(20 << 11)
    disk = connect(loopback(model, config=blk_config(capacity=20 << 11)), packed=packed, queue_size=4)
    data = bytes(range(256)) * ((20 << 20) // 256)
    disk.write(0, data)
    assert model.data == data
    assert disk.read(0, len(data)) == data
    assert model.seen.count(blk.T_OUT) == 20


def test_segments_within_size_max_and_seg_max(connect: Connect) -> None:
    model = Disk()
    features = BLK_FEATURES | bits.mask(blk.F_SIZE_MAX)
    disk = connect(loopback(model, features=features, config=blk_config(size_max=4096, seg_max=3)))
    disk.write(0, bytes(range(256)) * 256)
    assert model.data[:65536] == bytes(range(256)) * 256
    assert model.seen == [blk.T_OUT] * 6  # 64 KiB in requests of 12 KiB


def test_what_the_disk_says_of_itself(connect: Connect) -> None:
    disk = connect(loopback(config=blk_config(blk_size=4096)))
    assert disk.capacity == SECTORS * 512
    assert disk.block_size == 4096
    assert disk.properties.physical_block_size == 32768
    assert disk.properties.opt_io_size == 256 * 4096
    assert disk.serial == "loopback"
    assert not disk.read_only


def test_fields_of_features_not_negotiated_are_not_read(connect: Connect) -> None:
    transport = loopback(features=bits.mask(bits.VERSION_1), config=blk_config()[:8])
    disk = connect(transport)
    assert disk.properties.block_size == 512
    assert disk.properties.segments == 1
    disk.flush()  # nothing to do
    with pytest.raises(UnsupportedRequestError, match="DISCARD"):
        disk.discard(0, 512)


def test_discard_and_write_zeroes_within_limits(connect: Connect) -> None:
    model = Disk()
    disk = connect(loopback(model))
    disk.write(0, b"x" * disk.capacity)
    disk.write_zeroes(512, 3 << 9)
    disk.discard(1 << 20, 1 << 20)
    assert model.data[:2560] == b"x" * 512 + bytes(1536) + b"x" * 512
    assert model.data[1 << 20 :] == bytes(1 << 20)
    assert model.seen.count(blk.T_DISCARD) == 2  # 2048 sectors, at most 1024 each


def test_the_cache_mode(connect: Connect) -> None:
    disk = connect(loopback())
    assert disk.writeback
    disk.writeback = False
    assert not disk.writeback
    fixed = connect(loopback(features=BLK_FEATURES & ~bits.mask(blk.F_CONFIG_WCE)))
    assert fixed.writeback  # FLUSH alone: a volatile cache must be assumed
    with pytest.raises(UnsupportedRequestError):
        fixed.writeback = False


@pytest.mark.parametrize(("offset", "length"), [(1, 512), (0, 100), (-512, 512), (SECTORS * 512, 512)])
def test_ranges_that_cannot_be(connect: Connect, offset: int, length: int) -> None:
    disk = connect(loopback())
    for call in (disk.read, disk.discard, disk.write_zeroes):
        with pytest.raises(UsageError):
            call(offset, length)
    with pytest.raises(UsageError):
        disk.write(offset, bytes(length))


def test_a_read_only_disk(connect: Connect) -> None:
    disk = connect(loopback(features=BLK_FEATURES | bits.mask(blk.F_RO)))
    assert disk.read_only
    with pytest.raises(UnsupportedRequestError, match="read-only"):
        disk.write(0, bytes(512))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (blk.S_IOERR, DeviceIOError),
        (blk.S_UNSUPP, UnsupportedRequestError),
        (77, DeviceError),
        (255, DeviceError),
    ],
)
def test_statuses_are_exceptions_and_free_what_they_held(
    connect: Connect, status: int, error: type[Exception]
) -> None:
    model = Disk()
    disk = connect(loopback(model))
    free = disk.arena.free_bytes
    model.status = {blk.T_OUT: status, blk.T_IN: status, blk.T_FLUSH: status}
    for call in (lambda: disk.write(4096, bytes(512)), lambda: disk.read(4096, 512), disk.flush):
        with pytest.raises(error):
            call()
    model.status = {}
    assert disk.read(0, 512) == bytes(512)
    assert disk.arena.free_bytes == free


def test_buffers_of_the_arena_are_not_copied(connect: Connect) -> None:
    disk = connect(loopback())
    with disk.buffer(8192) as buffer:
        buffer.view[:] = b"z" * 8192
        disk.write(0, buffer)
        buffer.view[:] = bytes(8192)
        free = disk.arena.free_bytes
        disk.read_into(0, buffer)
        assert disk.arena.free_bytes == free
        assert bytes(buffer.view) == b"z" * 8192
    target = bytearray(512)
    disk.read_into(512, target)
    assert target == b"z" * 512


def test_many_in_flight_from_one_thread(connect: Connect, packed: bool) -> None:
    model = Disk()
    disk = connect(loopback(model), packed=packed, queue_size=64)
    buffers = [disk.buffer(512) for _ in range(64)]
    for number, buffer in enumerate(buffers):
        buffer.view[:] = bytes([number]) * 512
        assert disk.submit(blk.T_OUT, number * 512, buffer) is not None
    done = []
    while len(done) < 64:
        done += disk.wait()
    assert sorted(request.offset for request in done) == [number * 512 for number in range(64)]
    for request in done:
        request.result()
    assert disk.poll() == []
    assert disk.wait() == []
    assert model.data[: 64 * 512] == b"".join(bytes([number]) * 512 for number in range(64))


def test_a_full_queue_is_said_not_waited_for(connect: Connect) -> None:
    release = threading.Event()
    model = Disk()

    def slow(readable: bytes, writable: list[memoryview]) -> int:
        release.wait(5)
        return model(readable, writable)

    disk = connect(loopback(serve=slow), queue_size=4)
    with disk.buffer(512) as buffer:
        sent = 0
        while disk.submit(blk.T_IN, 0, buffer):
            sent += 1
        assert sent == 4
        release.set()
        while sent:
            sent -= len(disk.wait())


def test_submitted_errors_wait_in_the_request(connect: Connect) -> None:
    disk = connect(loopback())
    request = disk.submit(99)
    assert disk.wait() == [request]
    assert request is not None
    assert request.status == blk.S_UNSUPP
    with pytest.raises(UnsupportedRequestError, match="0x63"):
        request.result()


def test_a_late_answer_harms_nobody(connect: Connect) -> None:
    release = threading.Event()
    model = Disk()
    model.data[:512] = b"!" * 512

    def slow(readable: bytes, writable: list[memoryview]) -> int:
        release.wait(5)
        return model(readable, writable)

    disk = connect(loopback(serve=slow), timeout=0.05)
    free = disk.arena.free_bytes
    with pytest.raises(DeviceTimeoutError):
        disk.read(0, 512)
    assert disk.arena.free_bytes < free  # the device may still write there
    release.set()
    deadline = time.monotonic() + 5
    while disk.arena.free_bytes != free and time.monotonic() < deadline:
        disk.poll()
    assert disk.arena.free_bytes == free
    assert disk.read(0, 512) == b"!" * 512


def test_an_arena_too_small(connect: Connect) -> None:
    disk = connect(loopback(regions_allowed=1), arena_size=1 << 18)
    with pytest.raises(ArenaExhaustedError):
        disk.read(0, 1 << 20)
    assert disk.read(0, 4096) == bytes(4096)


def test_an_arena_grows(connect: Connect) -> None:
    transport = loopback()
    disk = connect(transport, arena_size=1 << 18)
    disk.write(0, b"g" * (1 << 20))
    assert disk.read(0, 1 << 20) == b"g" * (1 << 20)
    assert len(transport.regions) > 1


def test_many_threads_one_queue(connect: Connect, packed: bool) -> None:
    disk = connect(loopback(), packed=packed, queue_size=8)
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(30):
            data = bytes([number, turn]) * 256
            disk.write(number * 512, data)
            if disk.read(number * 512, 512) != data:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
