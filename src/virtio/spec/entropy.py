"""Entropy device (virtio 1.4, "Device Types / Entropy Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Queue

DEVICE = DeviceType(
    __name__, id=4, title="Entropy Device", prefix="VIRTIO_RNG_", queues=(Queue("requestq", 0),)
)
