from typing import final

from virtio.memory.table import GuestMemory
from virtio.virtqueue.queue import DriverQueue
from virtio.virtqueue.state import QueueState

__all__ = ["SplitDriverQueue"]

@final
class SplitDriverQueue(DriverQueue):
    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        descriptors: int,
        driver_area: int,
        device_area: int,
        *,
        features: int = 0,
        state: QueueState | None = None,
        byte_order: str = "little",
        indirect_tables: int = 0,
        indirect_entries: int = 32,
    ) -> None: ...
    def state(self) -> QueueState: ...
