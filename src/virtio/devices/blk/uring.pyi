from typing import final

from virtio.devices.blk.deferred import Deferred
from virtio.devices.blk.executor import Executor

@final
class UringDeferred(Deferred):
    """The ring of one queue of up to ``size`` requests. OSError if the kernel makes none."""

    def __init__(self, executor: Executor, size: int, *, lazy: bool = True) -> None: ...
