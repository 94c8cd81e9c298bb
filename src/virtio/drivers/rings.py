"""Lays a virtqueue out in the arena."""

from __future__ import annotations

from typing import NamedTuple

from virtio.drivers.memory import Arena, Buffer
from virtio.drivers.transport import QueueAddresses
from virtio.spec import features as bits
from virtio.virtqueue import DriverQueue, driver_queue

__all__ = ["RingLayout", "lay_out"]

DESCRIPTOR = 16  # bytes, in either kind of ring
INDIRECT_LENGTH = 8  # descriptors in each indirect table: more than nearly any chain has
LINE = 64  # areas begin on cache lines of their own


class RingLayout(NamedTuple):
    """A new ring and the memory it is in."""

    buffer: Buffer
    addresses: QueueAddresses
    ring: DriverQueue


def lay_out(arena: Arena, size: int, features: int) -> RingLayout:
    """Make a zeroed ring of up to ``size`` descriptors; a split ring takes the power of two below.

    Virtio 1.4, 2.7 (split) and 2.8.10 (packed) give the areas' sizes.
    """
    packed = bool(features >> bits.RING_PACKED & 1)
    if packed:
        driver_bytes = device_bytes = 4
    else:
        size = 1 << (size.bit_length() - 1)
        driver_bytes, device_bytes = 6 + 2 * size, 6 + 8 * size
    driver_at = _align(DESCRIPTOR * size)
    device_at = _align(driver_at + driver_bytes)
    tables_at = _align(device_at + device_bytes)
    indirect = bool(features >> bits.INDIRECT_DESC & 1)
    entries = min(INDIRECT_LENGTH, size)
    buffer = arena.allocate(tables_at + (size * entries * DESCRIPTOR if indirect else 0))
    buffer.view[:] = bytes(len(buffer))
    start = buffer.address
    addresses = QueueAddresses(size, start, start + driver_at, start + device_at)
    ring = driver_queue(
        arena.memory,
        size,
        addresses.descriptors,
        addresses.driver_area,
        addresses.device_area,
        features=features,
        indirect_tables=start + tables_at if indirect else 0,
        indirect_entries=entries,
    )
    return RingLayout(buffer, addresses, ring)


def _align(offset: int) -> int:
    return -(-offset // LINE) * LINE
