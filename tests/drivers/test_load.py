"""The load generator, against a disk whose behaviour is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import BLK_FEATURES, Disk, Loopback, blk_config

from virtio.drivers import Blk, LoadOptions, LoadResult, run_load
from virtio.drivers.blkload import BUCKET_COUNT, bucket_limit
from virtio.drivers.transport import EventKind
from virtio.errors import DeviceGoneError, DeviceTimeoutError, UnsupportedRequestError, UsageError
from virtio.spec import blk
from virtio.spec import features as bits

Connect = Callable[..., Blk]


def loopback(disk: Callable[..., int] | None = None, **changes: Any) -> Loopback:
    return Loopback(**{"serve": disk or Disk(), "config": blk_config(), **changes})


@pytest.mark.parametrize("polling", [True, False])
def test_a_number_of_requests(connect: Connect, packed: bool, polling: bool) -> None:
    model = Disk()
    disk = connect(loopback(model), packed=packed, num_queues=2)
    result = run_load(disk, LoadOptions(requests=501, seconds=None, depth=16, polling=polling))
    assert result.requests == 501 == model.seen.count(blk.T_IN) == sum(result.latencies.values())
    assert result.errors == 0
    assert 0 < result.percentile(50) <= result.percentile(99) <= result.max_latency
    assert disk.read(0, 512) == bytes(512)  # the queue is as it was


def test_one_thread_for_all_queues(connect: Connect, packed: bool) -> None:
    disk = connect(loopback(), packed=packed, num_queues=3)
    options = LoadOptions(
        requests=602, seconds=None, depth=8, polling=True, together=True, read_percent=50, verify=True
    )
    result = run_load(disk, options)
    assert result.requests == 602 == sum(result.latencies.values())
    assert (result.errors, result.mismatches) == (0, 0)
    assert all(queue.channel.queue.outstanding == 0 for queue in disk.queues)
    assert run_load(disk, LoadOptions(seconds=0.1, polling=True, together=True)).requests > 0


def test_one_thread_for_all_queues_does_not_sleep(connect: Connect) -> None:
    with pytest.raises(UsageError, match="cannot sleep"):
        run_load(connect(loopback(), num_queues=2), LoadOptions(together=True))


def test_one_of_the_queues_is_never_answered(connect: Connect) -> None:
    def some(readable: bytes, writable: list[memoryview]) -> int:
        return -1 if int.from_bytes(readable[8:16], "little") < 512 else Disk()(readable, writable)

    disk = connect(loopback(some), num_queues=2, timeout=0.3)
    with pytest.raises(DeviceTimeoutError, match="queue 0"):
        run_load(disk, LoadOptions(seconds=0.2, polling=True, together=True, depth=4))


def test_a_time(connect: Connect) -> None:
    disk = connect(loopback())
    begin = time.monotonic()
    result = run_load(disk, LoadOptions(seconds=0.2))
    assert 0.2 <= time.monotonic() - begin < 20
    assert result.requests > 0
    assert result.iops == pytest.approx(result.requests / result.seconds)


def test_one_after_the_other(connect: Connect) -> None:
    offsets: list[int] = []

    class Noting(Disk):
        def _act(self, kind: int, at: int, data: bytes, room: int) -> bytes | None:
            offsets.append(at)
            return super()._act(kind, at, data, room)

    disk = connect(loopback(Noting()))
    run_load(disk, LoadOptions(requests=40, seconds=None, random=False, depth=4, span=65536))
    assert sorted(offsets) == sorted([number % 16 * 4096 for number in range(40)])


def test_the_same_seed_the_same_blocks(connect: Connect) -> None:
    def blocks(seed: int) -> list[int]:
        model = Disk()
        seen: list[int] = []
        act = model._act
        model._act = lambda kind, at, data, room: (seen.append(at), act(kind, at, data, room))[1]  # type: ignore[method-assign]
        run_load(connect(loopback(model)), LoadOptions(requests=50, seconds=None, depth=1, seed=seed))
        return seen

    assert blocks(1) == blocks(1) != blocks(2)


def test_good_data_is_found_good(connect: Connect, packed: bool) -> None:
    disk = connect(loopback(), packed=packed, num_queues=2)
    options = LoadOptions(requests=3000, seconds=None, read_percent=50, verify=True, depth=16, span=1 << 20)
    result = run_load(disk, options)
    assert result.requests == 3000
    assert (result.errors, result.mismatches, result.first_mismatch) == (0, 0, None)


@pytest.mark.parametrize("damage", ["lost write", "wrong place", "one bit"])
def test_bad_data_is_found(connect: Connect, damage: str) -> None:
    class Damaged(Disk):
        def _act(self, kind: int, at: int, data: bytes, room: int) -> bytes | None:
            if at == 4096 * 5 and kind == blk.T_OUT:
                if damage == "lost write":
                    return b""
                if damage == "wrong place":
                    at += 4096
                else:
                    data = data[:777] + bytes([data[777] ^ 4]) + data[778:]
            return super()._act(kind, at, data, room)

    disk = connect(loopback(Damaged()))
    options = LoadOptions(requests=2000, seconds=None, read_percent=50, verify=True, depth=4, span=16 * 4096)
    result = run_load(disk, options)
    assert result.mismatches > 0
    assert result.first_mismatch in (4096 * 5, 4096 * 6)


def test_errors_are_counted(connect: Connect) -> None:
    model = Disk()
    model.status = {blk.T_OUT: blk.S_IOERR}
    result = run_load(connect(loopback(model)), LoadOptions(requests=100, seconds=None, read_percent=0))
    assert result.errors == 100 == result.requests


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 0},
        {"depth": 300},
        {"block_size": 1000},
        {"seconds": None},
        {"read_percent": 101},
        {"span": 100},
        {"verify": True, "span": 4096 * 20, "depth": 32},
    ],
    ids=str,
)
def test_what_cannot_be_done(connect: Connect, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run_load(connect(loopback()), LoadOptions(**options))


def test_a_queue_without_indirect_descriptors_holds_a_third(connect: Connect) -> None:
    disk = connect(loopback(features=BLK_FEATURES & ~bits.mask(bits.INDIRECT_DESC)), queue_size=64)
    with pytest.raises(UsageError, match="1 to 21 requests"):
        run_load(disk, LoadOptions(depth=22, seconds=0.1))
    assert run_load(disk, LoadOptions(depth=21, requests=200, seconds=None)).requests == 200


def test_writing_to_a_read_only_disk(connect: Connect) -> None:
    disk = connect(loopback(features=BLK_FEATURES | bits.mask(blk.F_RO)))
    with pytest.raises(UnsupportedRequestError):
        run_load(disk, LoadOptions(read_percent=0))


@pytest.mark.parametrize("polling", [True, False])
def test_a_device_that_dies_under_load(connect: Connect, polling: bool) -> None:
    transport = loopback()
    disk = connect(transport)
    served = transport.serve
    assert served is not None

    def die(readable: bytes, writable: list[memoryview]) -> int:
        transport.say(EventKind.GONE)
        return -1

    transport.serve = die
    with pytest.raises(DeviceGoneError):
        run_load(disk, LoadOptions(seconds=30, polling=polling))


def test_a_device_that_falls_silent(connect: Connect) -> None:
    disk = connect(loopback(serve=lambda readable, writable: -1), timeout=0.1)
    with pytest.raises(DeviceTimeoutError):
        run_load(disk, LoadOptions(seconds=0.1))


def test_percentiles() -> None:
    result = LoadResult(
        requests=100,
        seconds=2.0,
        errors=0,
        mismatches=0,
        first_mismatch=None,
        cpu_seconds=1.0,
        kicks=0,
        sleeps=0,
        max_latency=900,
        latencies={10: 50, 20: 49, 1000: 1},
        block_size=4096,
    )
    assert [result.percentile(percent) for percent in (0, 50, 51, 99, 100)] == [10, 10, 20, 20, 900]
    assert result.bandwidth == 50 * 4096


def test_buckets_are_three_per_cent_wide() -> None:
    limits = [bucket_limit(bucket) for bucket in range(BUCKET_COUNT)]
    assert limits == sorted(set(limits))
    assert all(after / before < 1.04 for before, after in pairwise(limits[31:]))


@given(st.integers(0, BUCKET_COUNT - 2))
def test_buckets_join(bucket: int) -> None:
    width = bucket_limit(bucket + 1) - bucket_limit(bucket)
    assert width & (width - 1) == 0
