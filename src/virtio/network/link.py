"""Where frames go: the one interface between a NIC, the filters and the world.

A NIC connects to one `Link`. What the guest sends is `put` into the link; what the world sends, the link puts
into the `Sink` it was connected with, on whatever thread it has it. A filter is a link around another: it is
the inner link's guest, and the outer guest's link.

Offloads: `accepts` says which frames a link can take unfinished (checksum not computed, not yet segmented) as
the feature bits of virtio 1.4, Network Device that the NIC may offer for it (CSUM, HOST_TSO4, ...). A NIC
finishes for the link what it does not accept, and for its own driver what that does not accept.
"""

from __future__ import annotations

from collections.abc import Callable

from cython.cimports.libc.errno import EAGAIN

from virtio.errors import UsageError

__all__ = ["Link", "Sink"]


# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do


class Sink:
    """Takes frames; the base drops them."""

    def put(self, queue, frames, count):
        return count


class Link:
    """One NIC's way to the world; the base is a cable that nobody plugged in."""

    def __init__(self) -> None:
        self.queues = 1

    def connect(self, guest: Sink, queues: int = 1) -> None:
        """Deliver to ``guest`` from now on, a NIC of ``queues`` pairs. UsageError if another one does."""
        if self.guest is not None:
            raise UsageError(f"{self.name} is connected to another NIC")
        self.guest = guest
        self.queues = queues

    def disconnect(self) -> None:
        """Deliver nothing more: when this returns, no thread is in the guest's `put`."""
        self.guest = None

    @property
    def name(self) -> str:
        """What log lines call it: its URL."""
        return "a link"

    @property
    def accepts(self) -> int:
        """Offloads that it takes: feature bits CSUM and HOST_* as a mask."""
        return 0

    def set_guest_offloads(self, features: int) -> None:
        """What the guest takes, as feature bits GUEST_*; changes while running."""

    def use_queues(self, count: int) -> bool:
        """The guest uses its first ``count`` pairs from now on; changes while running.

        True if the link spreads flows over just as many itself, and follows the queue that the guest sends a
        flow on: the NIC then leaves each frame to the queue that it came for.
        """
        return False

    @property
    def up(self) -> bool:
        """Whether there is a carrier."""
        return True

    def on_carrier(self, tell: Callable[[bool], None] | None) -> None:
        """Have ``tell`` called, on any thread, whenever `up` changes."""

    @property
    def mtu(self) -> int | None:
        """Bytes of payload that a frame may have; None: no limit of its own."""
        return None

    def receive_fd(self, queue: int) -> int:
        """A file descriptor that is readable when something came for this queue; -1: it delivers itself."""
        return -1

    def receive(self, queue, budget):
        return -EAGAIN

    def stats(self) -> dict[str, int]:
        """Counters of its own since it was opened."""
        return {}

    def close(self) -> None:
        """Let go of everything. The NIC is gone already."""
