from typing import final

from virtio.device.worker import QueueWorker
from virtio.devices.net.moderation import Delay
from virtio.devices.net.nic import Nic
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Transmitter"]

@final
class Transmitter(QueueWorker):
    def __init__(self, queue: DeviceQueue, nic: Nic, pair: int, delay: Delay | None = None) -> None: ...
