"""``null:SIZE``: a disk that answers at once and moves no data, to measure everything else."""

from __future__ import annotations

from functools import cached_property

from virtio.storage.backend import NullBackend
from virtio.storage.base import checked_size
from virtio.storage.native import NativeStorage

__all__ = ["NullStorage"]


class NullStorage(NativeStorage):
    """Accepts all writes and leaves the buffers of reads as they are."""

    can_discard = True
    can_write_zeroes = True

    @cached_property
    def backend(self) -> NullBackend:
        """The compiled side."""
        return NullBackend()

    def resize(self, size: int) -> None:
        """Pretend to be ``size`` bytes."""
        self.set_size(checked_size(size, self.name))
