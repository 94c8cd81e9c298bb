from typing_extensions import disjoint_base

from virtio.devices.blk.executor import Executor, Ring

MOST_IN_FLIGHT: int

@disjoint_base
class UringRing(Ring):
    """The ring of one queue of up to ``size`` requests. OSError if the kernel makes none."""

    def __init__(self, executor: Executor, size: int) -> None: ...
