"""The network device (virtio 1.4, Network Device)."""

from virtio.devices.net.device import Net

__all__ = ["Net"]
