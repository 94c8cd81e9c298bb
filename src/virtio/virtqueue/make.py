"""Make the kind of queue that the negotiated features ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virtio.memory import GuestMemory
from virtio.spec.features import RING_PACKED
from virtio.virtqueue.queue import DeviceQueue, DriverQueue
from virtio.virtqueue.split import SplitDeviceQueue
from virtio.virtqueue.split_driver import SplitDriverQueue
from virtio.virtqueue.state import QueueState

__all__ = ["device_queue", "driver_queue"]


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
    make: Callable[..., DeviceQueue] = SplitDeviceQueue
    if features >> RING_PACKED & 1:
        # Only where it is used: a back-end must listen soon after its start.
        from virtio.virtqueue.packed import PackedDeviceQueue

        make = PackedDeviceQueue
    return make(
        memory, size, descriptors, driver_area, device_area, features=features, state=state, **options
    )


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
    make: Callable[..., DriverQueue] = SplitDriverQueue
    if features >> RING_PACKED & 1:
        from virtio.virtqueue.packed_driver import PackedDriverQueue

        make = PackedDriverQueue
    return make(
        memory, size, descriptors, driver_area, device_area, features=features, state=state, **options
    )
