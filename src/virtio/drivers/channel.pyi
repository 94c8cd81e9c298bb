"""A driver's queue with its two bells, and the way to wait for it: spin a little, then sleep."""

from collections.abc import Sequence
from typing import Final

from typing_extensions import disjoint_base

from virtio.virtqueue.queue import DriverQueue

__all__ = ["FINISHED", "INTERRUPTED", "TIMEOUT", "WOKEN", "Channel"]

TIMEOUT: Final[int]
FINISHED: Final[int]
WOKEN: Final[int]
INTERRUPTED: Final[int]

@disjoint_base
class Channel:
    queue: DriverQueue
    kick_fd: int
    call_fd: int
    wake_fd: int
    kicks: int
    sleeps: int
    @property
    def fault(self) -> int: ...
    def __init__(
        self, queue: DriverQueue, kick_fd: int, call_fd: int, wake_fd: int, *, poll_us: float = 50
    ) -> None: ...
    def add(
        self, readable: Sequence[tuple[int, int]], writable: Sequence[tuple[int, int]], token: int
    ) -> bool: ...
    def publish(self) -> None: ...
    def reap(self, limit: int = 64) -> list[tuple[int, int]] | None: ...
    def finished(self) -> bool: ...
    def wait(self, timeout_ns: int = -1) -> int: ...
    def arm(self) -> bool: ...
    def disarm(self) -> None: ...
