from typing import final

from virtio.device.worker import QueueWorker
from virtio.devices.blk.deferred import Deferred
from virtio.devices.blk.disk import Disk
from virtio.devices.blk.executor import Executor
from virtio.virtqueue.queue import DeviceQueue

NAMES: dict[int, str]

@final
class BlkEngine(QueueWorker):
    """Serves one request queue of a block device."""

    def __init__(
        self,
        queue: DeviceQueue,
        disk: Disk,
        executor: Executor,
        *,
        always_durable: bool = False,
        discard: bool = True,
        write_zeroes: bool = True,
        big_endian: bool = False,
        deferred: Deferred | None = None,
    ) -> None: ...
