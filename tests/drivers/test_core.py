"""Bringing a device up and letting it go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loopback import BLK_FEATURES, SECTORS, Disk, Loopback, blk_config

from virtio.drivers import Blk
from virtio.drivers.transport import Event, EventKind
from virtio.errors import DeviceError, DeviceGoneError, FeatureError, UsageError
from virtio.spec import blk
from virtio.spec import features as bits

Connect = Callable[..., Blk]


def disk_transport(**changes: Any) -> Loopback:
    return Loopback(**{"serve": Disk(), "config": blk_config(), **changes})


def test_the_initialisation_sequence(connect: Connect) -> None:
    transport = disk_transport()
    connect(transport, num_queues=2)
    assert transport.log == [
        "reset",
        "ACKNOWLEDGE",
        "DRIVER",
        "features?",
        "features!",
        "FEATURES_OK",
        "queue 0",
        "queue 1",
        "DRIVER_OK",
    ]


def test_only_known_features_are_accepted(connect: Connect) -> None:
    disk = connect(disk_transport(features=BLK_FEATURES | bits.mask(60, blk.F_ZONED)))
    assert disk.features == BLK_FEATURES


@pytest.mark.parametrize("packed", [True, False, None])
def test_the_kind_of_ring_is_the_callers_choice(connect: Connect, packed: bool | None) -> None:
    disk = connect(disk_transport(), packed=packed)
    assert disk.has(bits.RING_PACKED) == (packed is not False)


def test_packed_rings_that_are_not_offered(connect: Connect) -> None:
    with pytest.raises(FeatureError, match="does not offer RING_PACKED"):
        connect(disk_transport(features=bits.mask(bits.VERSION_1)), packed=True)


def test_a_legacy_device_is_refused(connect: Connect) -> None:
    transport = disk_transport(features=bits.mask(blk.F_FLUSH))
    with pytest.raises(FeatureError, match="VERSION_1"):
        connect(transport)
    assert "FAILED" in transport.log
    assert transport.log[-1] == "close"


def test_a_device_that_refuses_the_features(connect: Connect) -> None:
    transport = disk_transport(refuse_features=True)
    with pytest.raises(FeatureError, match="refuses the features"):
        connect(transport)
    assert "DRIVER_OK" not in transport.log


def test_unwanted_features_are_left_out(connect: Connect) -> None:
    disk = connect(disk_transport(), without=bits.mask(bits.EVENT_IDX, blk.F_MQ), num_queues=4)
    assert not disk.has(bits.EVENT_IDX)
    assert len(disk.queues) == 1


def test_a_device_of_another_type(connect: Connect) -> None:
    with pytest.raises(DeviceError, match="type 1, not 2"):
        connect(disk_transport(device_id=1))


def test_a_device_that_takes_no_memory(connect: Connect) -> None:
    with pytest.raises(DeviceError, match="none of the driver's memory"):
        connect(disk_transport(regions_allowed=0))


def test_restarting(connect: Connect, packed: bool) -> None:
    disk = connect(disk_transport(), packed=packed)
    for number in range(3):
        data = bytes([number]) * 512
        disk.write(0, data)
        disk.restart()
        assert disk.read(0, 512) == data
    free = disk.arena.free_bytes
    disk.restart()
    assert disk.arena.free_bytes == free


def test_a_closed_device_cannot_be_used_or_restarted(connect: Connect) -> None:
    disk = connect(disk_transport())
    disk.close()
    disk.close()
    with pytest.raises(UsageError):
        disk.restart()
    with pytest.raises(DeviceGoneError):
        disk.read(0, 512)


def test_whoever_is_woken_by_closing_may_close_too(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = connect(disk_transport())
    let_go, closed = disk._let_go, []

    def wake(error: object) -> None:
        monkeypatch.setattr(disk, "fail", lambda error: None)
        thread = threading.Thread(target=disk.close)
        thread.start()
        thread.join()

    monkeypatch.setattr(disk, "fail", wake)
    monkeypatch.setattr(disk, "_let_go", lambda: closed.append(1))
    disk.close()
    let_go()
    assert closed == [1]


def test_a_device_that_dies_fails_whoever_waits(connect: Connect) -> None:
    transport = disk_transport(serve=lambda readable, writable: -1)
    disk = connect(transport, timeout=None, num_queues=2)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            disk.read(0, 512)
        except DeviceGoneError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    while sum(queue.outstanding for queue in disk.queues) < 6:
        time.sleep(0.001)
    transport.say(EventKind.GONE, "a test")
    for thread in threads:
        thread.join(5)
    assert len(errors) == 6
    with pytest.raises(DeviceGoneError, match="a test"):
        disk.read(0, 512)


def test_requests_in_flight_are_told_of_a_death_before_it_is_raised(connect: Connect) -> None:
    transport = disk_transport(serve=lambda readable, writable: -1)
    disk = connect(transport)
    with disk.buffer(512) as buffer:
        requests = [disk.submit(blk.T_IN, 0, buffer) for _ in range(3)]
        transport.say(EventKind.GONE)
        done = disk.wait(5)
        done += disk.poll() if len(done) < 3 else []
    assert done == requests
    assert all(isinstance(request.error, DeviceGoneError) for request in done)
    with pytest.raises(DeviceGoneError):
        disk.poll()


def test_a_watcher_that_fails_is_not_silent(connect: Connect) -> None:
    transport = disk_transport(serve=lambda readable, writable: -1)

    def broken() -> Iterator[Event]:
        raise OSError(9, "Bad file descriptor")
        yield

    transport.events = broken  # type: ignore[method-assign]
    with pytest.raises(DeviceGoneError, match="watched"):
        connect(transport, timeout=5).read(0, 512)


@pytest.mark.parametrize("needs_reset", [True, False])
def test_a_device_that_stops_by_itself(connect: Connect, needs_reset: bool) -> None:
    transport = disk_transport(serve=lambda readable, writable: -1)
    disk = connect(transport, timeout=None)
    if needs_reset:
        transport._status |= 64
        transport.say(EventKind.CONFIG_CHANGED)
    else:
        transport.say(EventKind.QUEUE_FAILED, "queue 0")
    with pytest.raises(DeviceError, match="needs a reset" if needs_reset else "queue 0"):
        disk.read(0, 512)


def test_a_new_size_is_noticed(connect: Connect) -> None:
    sizes: list[int] = []
    noticed = threading.Event()

    def resized(capacity: int) -> None:
        sizes.append(capacity)
        noticed.set()

    transport = disk_transport()
    disk = connect(transport, on_resize=resized)
    transport.config = blk_config(capacity=2 * SECTORS)
    transport.say(EventKind.CONFIG_CHANGED)
    assert noticed.wait(5)
    assert sizes == [disk.capacity] == [2 * SECTORS * 512]


def test_threads_are_spread_over_the_queues(connect: Connect) -> None:
    disk = connect(disk_transport(), num_queues=4)
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait(5)
        for _ in range(20):
            disk.read(0, 512)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [queue.requests for queue in disk.queues] == [40] * 4
