"""A filter that impairs frames, each direction by its own settings."""

from __future__ import annotations

from virtio.errors import UsageError
from virtio.network.filter import FilterLink
from virtio.network.impair.pipe import Pipe
from virtio.network.impair.settings import Impairment
from virtio.network.link import Link, Sink

__all__ = ["ImpairLink"]

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do

CSUM_FEATURES = 1 << 0 | 1 << 1
"""CSUM and GUEST_CSUM: virtio 1.4, Network Device, Feature bits."""


class ImpairLink:
    """Delays, loses, duplicates, reorders, corrupts and slows frames down.

    ``inwards`` is what comes to the guest, ``outwards`` what it sends. A frame that the guest's network stack
    left for the NIC to segment counts as one, as in tc-netem; ``segments=False`` has it segmented before.
    """

    def __init__(
        self,
        inner: Link,
        inwards: Impairment | None = None,
        outwards: Impairment | None = None,
        *,
        seed: int | None = None,
        segments: bool = True,
    ) -> None:
        super().__init__(inner)
        self.segments = segments
        self.inwards = Pipe(None, inwards, seed=seed, stream=0)
        self.outwards = Pipe(inner, outwards, seed=self.inwards.seed, stream=1)

    @property
    def seed(self) -> int:
        """What a run that is to be like this one needs."""
        return self.inwards.seed

    def put(self, queue, frames, count):
        return self.outwards.put(queue, frames, count)

    def deliver(self, queue, frames, count):
        return self.inwards.put(queue, frames, count)

    def connect(self, guest: Sink, queues: int = 1) -> None:
        """Deliver to ``guest`` from now on. UsageError if another one is connected."""
        if self.guest is None:
            self.inwards.aim(guest)
        FilterLink.connect(self, guest, queues)

    def disconnect(self) -> None:
        """Deliver nothing more: when this returns, no thread is in the guest's `put`."""
        FilterLink.disconnect(self)
        self.inwards.aim(None)

    def set(self, direction: str = "both", **options: str | None) -> None:
        """Change ``options``, written as in a URL, while frames flow; None is an option's default.

        ``direction`` is "in", "out" or "both". Raises NetworkUrlError, and then nothing has changed.
        """
        if direction not in ("in", "out", "both"):
            raise UsageError(f"a direction is in, out or both, not {direction!r}")
        pipes = [self.inwards] if direction != "out" else []
        pipes += [self.outwards] if direction != "in" else []
        changed = [pipe.settings.changed(**options) for pipe in pipes]
        for pipe, settings in zip(pipes, changed, strict=True):
            pipe.set(settings)

    @property
    def accepts(self) -> int:
        """What the inner link takes; without segmentation unless unsegmented frames may pass."""
        accepted = self.inner.accepts
        return accepted if self.segments else accepted & CSUM_FEATURES

    def set_guest_offloads(self, features: int) -> None:
        """What the guest takes, as feature bits GUEST_*."""
        self.inner.set_guest_offloads(features if self.segments else features & CSUM_FEATURES)

    def stats(self) -> dict[str, int]:
        """The inner link's, and those of `Pipe.stats` as ``impair_in_...`` and ``impair_out_...``."""
        found = self.inner.stats()
        for direction, pipe in (("in", self.inwards), ("out", self.outwards)):
            found |= {f"impair_{direction}_{name}": value for name, value in pipe.stats().items()}
        return found

    def close(self) -> None:
        """Drop what is held and close the inner link."""
        self.outwards.close()
        self.inwards.close()
        self.inner.close()
