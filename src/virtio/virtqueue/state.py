"""Where a queue stands: all that must be kept to stop it here and go on elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QueueState"]


@dataclass(frozen=True, slots=True)
class QueueState:
    """Ring positions between two chains (virtio 1.4, 2.7.6 split; 2.8.1 packed).

    Split rings: free-running 16-bit indexes, the wrap counters unused; a device that goes on takes the used
    index from the ring, where it always stands, since a transport may carry the available one alone.
    Packed rings: positions below the queue's size, each with its wrap counter, which starts as 1.
    """

    avail_index: int = 0
    used_index: int = 0
    avail_wrap: bool = True
    used_wrap: bool = True
