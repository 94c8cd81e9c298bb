"""Virtqueues: split and packed rings, the device's side and the driver's."""

from virtio.virtqueue.layout import RingLayout, legacy_split_layout, packed_layout, split_layout
from virtio.virtqueue.queue import DeviceQueue, DriverQueue, PoppedChain
from virtio.virtqueue.split import SplitDeviceQueue
from virtio.virtqueue.state import QueueState

__all__ = [
    "DeviceQueue",
    "DriverQueue",
    "PoppedChain",
    "QueueState",
    "RingLayout",
    "SplitDeviceQueue",
    "legacy_split_layout",
    "packed_layout",
    "split_layout",
]
