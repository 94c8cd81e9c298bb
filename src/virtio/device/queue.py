"""What a device declares about its virtqueues."""

from __future__ import annotations

from dataclasses import dataclass

from virtio.errors import UsageError

__all__ = ["LARGEST_QUEUE", "Queue"]

LARGEST_QUEUE = 32768  # virtio 1.4, 2.7 and 2.8


@dataclass(frozen=True, slots=True)
class Queue:
    """One virtqueue, or ``count`` of the same kind side by side. Raises UsageError if it cannot be.

    ``name`` is also the name of the device's method that handles its requests.
    """

    name: str
    size: int = 256  # descriptors the driver may use at most
    count: int = 1
    drain: float = 10.0  # seconds that stopping waits for requests in flight before giving them up

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UsageError(f"a queue's name must be a Python identifier, not {self.name!r}")
        if not 1 <= self.size <= LARGEST_QUEUE:
            raise UsageError(f"queue {self.name}: a size is 1 to {LARGEST_QUEUE}, not {self.size}")
        if not 1 <= self.count <= 65535:
            raise UsageError(f"queue {self.name}: a count is 1 to 65535, not {self.count}")
