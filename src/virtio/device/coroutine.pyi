"""The worker that runs a coroutine for each request: many in flight, completed in any order."""

from collections.abc import Callable, Coroutine
from typing import Any

from typing_extensions import disjoint_base

from virtio.device.loop import LoopThread
from virtio.device.request import Request
from virtio.device.worker import QueueWorker
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["CoroutineWorker"]

@disjoint_base
class CoroutineWorker(QueueWorker):
    """Runs ``handler(request)``, a coroutine, as a task for each request."""

    def __init__(
        self,
        queue: DeviceQueue,
        handler: Callable[[Request], Coroutine[Any, Any, Any]],
        failed: Callable[[Request, BaseException], None],
        host: LoopThread,
    ) -> None: ...
