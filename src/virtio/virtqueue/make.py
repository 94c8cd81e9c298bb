"""Make the kind of queue that the negotiated features ask for."""

from __future__ import annotations

from typing import Any

from virtio.memory import GuestMemory
from virtio.virtqueue.queue import DeviceQueue, DriverQueue
from virtio.virtqueue.split import SplitDeviceQueue
from virtio.virtqueue.split_driver import SplitDriverQueue
from virtio.virtqueue.state import QueueState

__all__ = ["device_queue", "driver_queue"]

_RING_PACKED = 34


def device_queue(
    memory: GuestMemory,
    size: int,
    descriptors: int,
    driver_area: int,
    device_area: int,
    *,
    features: int = 0,
    state: QueueState | None = None,
    **options: Any,
) -> DeviceQueue:
    """The device's end of a ring: packed if ``features`` has RING_PACKED, else split.

    Raises RingAreaError when the ring cannot be there or cannot have this size.
    """
    kind = SplitDeviceQueue
    if features >> _RING_PACKED & 1:
        from virtio.virtqueue.packed import PackedDeviceQueue as kind  # only where it is used: start-up time
    return kind(memory, size, descriptors, driver_area, device_area, features=features, state=state, **options)


def driver_queue(
    memory: GuestMemory,
    size: int,
    descriptors: int,
    driver_area: int,
    device_area: int,
    *,
    features: int = 0,
    state: QueueState | None = None,
    **options: Any,
) -> DriverQueue:
    """The driver's end of a ring: packed if ``features`` has RING_PACKED, else split.

    Raises RingAreaError when the ring cannot be there or cannot have this size.
    """
    kind = SplitDriverQueue
    if features >> _RING_PACKED & 1:
        from virtio.virtqueue.packed_driver import PackedDriverQueue as kind  # only where it is used: start-up time
    return kind(memory, size, descriptors, driver_area, device_area, features=features, state=state, **options)
