from typing import final

from virtio.memory.table import GuestMemory
from virtio.virtqueue.queue import DeviceQueue
from virtio.virtqueue.state import QueueState

__all__ = ["SplitDeviceQueue"]

@final
class SplitDeviceQueue(DeviceQueue):
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
    ) -> None: ...
    def state(self) -> QueueState: ...
    def reset(self) -> None: ...
