"""Devices: the base class, requests, the workers that serve queues, and what transports drive."""

from virtio.device.attachment import Attachment
from virtio.device.config import ConfigSpace
from virtio.device.device import RING_FEATURES, Device
from virtio.device.handler import HandlerWorker
from virtio.device.queue import Queue
from virtio.device.request import Request
from virtio.device.vring import Vring
from virtio.device.worker import QueueWorker

__all__ = [
    "RING_FEATURES",
    "Attachment",
    "ConfigSpace",
    "Device",
    "HandlerWorker",
    "Queue",
    "QueueWorker",
    "Request",
    "Vring",
]
