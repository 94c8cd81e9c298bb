"""Drives a virtio network device (virtio 1.4, 5.1)."""

from virtio.drivers.net.nic import Net
from virtio.drivers.net.options import NetOptions
from virtio.drivers.net.receiver import Frame

__all__ = ["Frame", "Net", "NetOptions"]
