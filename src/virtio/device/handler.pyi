"""The worker that hands requests to a device's plain function, a batch each time it takes the GIL."""

from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from virtio.device.request import Request
from virtio.device.worker import QueueWorker
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["HandlerWorker"]

@disjoint_base
class HandlerWorker(QueueWorker):
    """Calls ``handler(request)`` for each request, on the queue's own thread."""

    def __init__(
        self,
        queue: DeviceQueue,
        handler: Callable[[Request], Any],
        failed: Callable[[Request, BaseException], None],
    ) -> None: ...
