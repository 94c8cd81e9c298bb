from typing_extensions import disjoint_base

from virtio.devices.blk.executor import Executor

@disjoint_base
class Deferred:
    """The requests of one queue that would wait; this one leaves them all to the executor's threads."""

    def __init__(self, executor: Executor) -> None: ...
    @property
    def fd(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
