"""A device's worker and its driver on one thread: each publication is served before the call returns."""

from typing_extensions import disjoint_base

from virtio.device.worker import QueueWorker
from virtio.drivers.channel import Channel
from virtio.virtqueue.queue import DriverQueue

__all__ = ["LockstepChannel"]

@disjoint_base
class LockstepChannel(Channel):
    worker: QueueWorker
    served_ns: int
    rounds: int
    @property
    def ring_fault(self) -> int: ...
    def __init__(self, queue: DriverQueue, worker: QueueWorker, *, timed: bool = False) -> None: ...
