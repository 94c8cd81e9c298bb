from typing_extensions import disjoint_base

from virtio.device.worker import QueueWorker
from virtio.devices.net.nic import Nic
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Receiver"]

@disjoint_base
class Receiver(QueueWorker):
    """Serves the receive queue of pair number ``pair``."""

    def __init__(self, queue: DeviceQueue, nic: Nic, pair: int) -> None: ...
