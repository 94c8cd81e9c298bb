"""A link around another: what every filter delegates.

::

    guest -> put     -> inner.put -> world
    guest <- deliver <- Inward    <- world
"""

from __future__ import annotations

from collections.abc import Callable

import cython

from virtio.network.link import Link, Sink

__all__ = ["FilterLink", "Inward", "stack"]

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do


class Inward:
    """The inner link's guest: hands what the world sends to the filter."""

    def put(self, queue, frames, count):
        return self.filter.deliver(queue, frames, count)


class FilterLink:
    """Passes everything on, both ways. A filter overrides `put`, `deliver`, or both."""

    def __init__(self, inner: Link) -> None:
        super().__init__()
        self.inner = inner
        self.inward = Inward()
        self.inward.filter = self

    def put(self, queue, frames, count):
        return self.inner.put(queue, frames, count)

    def deliver(self, queue, frames, count):
        if self.guest is None:
            return count
        return self.guest.put(queue, frames, count)

    def receive(self, queue, budget):
        return self.inner.receive(queue, budget)

    def connect(self, guest: Sink, queues: int = 1) -> None:
        """Deliver to ``guest`` from now on. UsageError if another one is connected."""
        Link.connect(self, guest, queues)
        try:
            self.inner.connect(self.inward, queues)
        except BaseException:
            Link.disconnect(self)
            raise

    def disconnect(self) -> None:
        """Deliver nothing more: when this returns, no thread is in the guest's `put`."""
        self.inner.disconnect()
        Link.disconnect(self)

    @property
    def name(self) -> str:
        """The inner link's: a filter changes frames, not where they go."""
        return self.inner.name

    @property
    def accepts(self) -> int:
        """Offloads that the inner link takes."""
        return self.inner.accepts

    def set_guest_offloads(self, features: int) -> None:
        """What the guest takes, as feature bits GUEST_*."""
        self.inner.set_guest_offloads(features)

    def use_queues(self, count: int) -> bool:
        """Whether the inner link spreads flows over the guest's ``count`` pairs itself."""
        return self.inner.use_queues(count)

    @property
    def up(self) -> bool:
        """Whether the inner link has a carrier."""
        return self.inner.up

    def on_carrier(self, tell: Callable[[bool], None] | None) -> None:
        """Have ``tell`` called, on any thread, whenever `up` changes."""
        self.inner.on_carrier(tell)

    @property
    def mtu(self) -> int | None:
        """Bytes of payload that a frame may have on the inner link."""
        return self.inner.mtu

    def receive_fd(self, queue: int) -> int:
        """The inner link's file descriptor for this queue, or -1."""
        return self.inner.receive_fd(queue)

    def stats(self) -> dict[str, int]:
        """The inner link's counters; a filter adds its own."""
        return self.inner.stats()

    def close(self) -> None:
        """Close the inner link."""
        self.inner.close()


def stack(link: Link) -> list[Link]:
    """The filters around a link, outermost first, and the link itself last."""
    found = [link]
    while isinstance(link, FilterLink):
        link = cython.cast(FilterLink, link).inner
        found.append(link)
    return found
