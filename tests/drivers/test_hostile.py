"""Devices that lie: each lie is a DeviceError for whoever waits, and the ring is never touched again."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest
from loopback import BLK_FEATURES, Loopback, Served, blk_config

from virtio.drivers import Blk, LoadOptions, run_load
from virtio.errors import DeviceError
from virtio.spec import blk
from virtio.spec import features as bits

SPLIT = BLK_FEATURES & ~bits.mask(bits.RING_PACKED)
Lie = Callable[[Loopback, Served], None]


def use_split(transport: Loopback, queue: Served, index: int, *elements: tuple[int, int]) -> None:
    """Write used elements and the used index as they are given."""
    area = queue.addresses.device_area
    for number, element in enumerate(elements):
        transport.memory.write(area + 4 + 8 * number, struct.pack("<II", *element))
    transport.memory.write(area + 2, struct.pack("<H", index))


def use_packed(transport: Loopback, queue: Served, id: int, length: int) -> None:
    """Mark the first descriptor of the ring used and written, in the first lap."""
    entry = queue.addresses.descriptors
    transport.memory.write(entry + 8, struct.pack("<IH", length, id))
    transport.memory.write(entry + 14, struct.pack("<H", 0x8082))


LIES: dict[str, tuple[int, Lie]] = {
    "split: an id beyond the ring": (SPLIT, lambda t, q: use_split(t, q, 1, (9999, 1))),
    "split: an id that is not outstanding": (SPLIT, lambda t, q: use_split(t, q, 1, (77, 1))),
    "split: more used than offered": (SPLIT, lambda t, q: use_split(t, q, 500, (0, 1))),
    "split: the index runs backwards": (SPLIT, lambda t, q: use_split(t, q, 0xFFFF, (0, 1))),
    "split: the same chain twice": (SPLIT, lambda t, q: use_split(t, q, 2, (0, 1), (0, 1))),
    "split: written more than there is room for": (SPLIT, lambda t, q: use_split(t, q, 1, (0, 1 << 30))),
    "packed: an id beyond the ring": (BLK_FEATURES, lambda t, q: use_packed(t, q, 9999, 1)),
    "packed: an id that is not outstanding": (BLK_FEATURES, lambda t, q: use_packed(t, q, 77, 1)),
    "packed: written more than there is room for": (BLK_FEATURES, lambda t, q: use_packed(t, q, 0, 1 << 30)),
}


def liar(lie: Lie) -> Callable[[Loopback, Served], None]:
    def act(transport: Loopback, queue: Served) -> None:
        if transport.wait_kick(queue):
            lie(transport, queue)
            os.eventfd_write(queue.call, 1)

    return act


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_an_error(connect: Callable[..., Blk], name: str) -> None:
    features, lie = LIES[name]
    disk = connect(Loopback(rogue=liar(lie), features=features, config=blk_config()), timeout=5.0)
    with pytest.raises(DeviceError):
        disk.read(0, 4096)
    with pytest.raises(DeviceError):
        disk.write(0, bytes(512))


@pytest.mark.parametrize("polling", [True, False])
@pytest.mark.parametrize("name", LIES)
def test_the_load_generator_finds_it_too(connect: Callable[..., Blk], name: str, polling: bool) -> None:
    features, lie = LIES[name]
    disk = connect(Loopback(rogue=liar(lie), features=features, config=blk_config()), timeout=5.0)
    with pytest.raises(DeviceError):
        run_load(disk, LoadOptions(seconds=5, depth=1, polling=polling))


def test_a_request_finished_without_a_status(connect: Callable[..., Blk]) -> None:
    disk = connect(Loopback(serve=lambda readable, writable: 0, config=blk_config()))
    with pytest.raises(DeviceError, match="without a status"):
        disk.read(0, 512)


def test_bells_without_reason(connect: Callable[..., Blk]) -> None:
    """A device that rings and rings costs time, and finishes nothing."""

    def ring(transport: Loopback, queue: Served) -> None:
        while transport.wait_kick(queue):
            for _ in range(1000):
                os.eventfd_write(queue.call, 1)

    disk = connect(Loopback(rogue=ring, config=blk_config()), timeout=0.2)
    with pytest.raises(TimeoutError):
        disk.read(0, 512)


@pytest.mark.parametrize(
    "config",
    [
        b"\xff" * 200,
        bytes(200),
        blk_config(blk_size=0, seg_max=0, num_queues=0, max_discard_sectors=0),
        blk_config(blk_size=0xFFFF_FFFF, num_queues=0xFFFF, capacity=(1 << 64) - 1),
        blk_config()[:5],
    ],
    ids=["ones", "zeros", "no limits", "huge", "short"],
)
def test_a_configuration_that_makes_no_sense(connect: Callable[..., Blk], config: bytes) -> None:
    features = BLK_FEATURES | bits.mask(blk.F_SIZE_MAX)
    disk = connect(
        Loopback(serve=lambda readable, writable: 0, features=features, config=config), num_queues=4
    )
    assert disk.block_size >= 1
    assert 1 <= len(disk.queues) <= 4
