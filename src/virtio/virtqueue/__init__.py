"""Virtqueues: split and packed rings, the device's side and the driver's.

``device_queue`` and ``driver_queue`` make the kind that the negotiated features ask for.
"""

from virtio.virtqueue.layout import RingLayout, legacy_split_layout, packed_layout, split_layout
from virtio.virtqueue.make import device_queue, driver_queue
from virtio.virtqueue.queue import DeviceQueue, DriverQueue, PoppedChain
from virtio.virtqueue.split import SplitDeviceQueue
from virtio.virtqueue.split_driver import SplitDriverQueue
from virtio.virtqueue.state import QueueState

__all__ = [
    "DeviceQueue",
    "DriverQueue",
    "PoppedChain",
    "QueueState",
    "RingLayout",
    "SplitDeviceQueue",
    "SplitDriverQueue",
    "device_queue",
    "driver_queue",
    "legacy_split_layout",
    "packed_layout",
    "split_layout",
]
