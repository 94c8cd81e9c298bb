from typing_extensions import disjoint_base

from virtio.device.worker import QueueWorker
from virtio.devices.blk.deferred import Deferred
from virtio.devices.blk.executor import Executor
from virtio.storage.backend import Backend
from virtio.virtqueue.queue import DeviceQueue

NAMES: dict[int, str]

@disjoint_base
class Disk:
    """What the queues of one block device share; each attribute may change while they run."""

    size: int
    writeback: bool
    def __init__(
        self, backend: Backend, size: int, *, name: str, read_only: bool, writeback: bool, identity: bytes
    ) -> None: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def name(self) -> str: ...

@disjoint_base
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
