from typing import final

from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Intake"]

@final
class Intake:
    """One receive ring and its lock."""

    def __init__(self) -> None: ...
    def serve(self, queue: DeviceQueue, call_fd: int, wake_fd: int, bells: bool) -> None: ...
    def stats(self) -> dict[str, int]: ...
