"""Storage whose bytes are moved by compiled code; Python callers take the same way as a guest."""

from __future__ import annotations

from virtio.storage.base import Storage

__all__ = ["NativeStorage"]


class NativeStorage(Storage):
    """Hands every call to its compiled ``backend``, which a subclass provides."""

    def read(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset`` on."""
        self._check(offset, len(buffer))
        self.backend.read_into(offset, buffer)

    def write(self, offset: int, data: memoryview) -> None:
        """Store ``data`` at ``offset``."""
        self._check(offset, len(data), writing=True)
        self.backend.write_from(offset, data)

    def flush(self) -> None:
        """Return once everything written before is on stable storage."""
        self.backend.sync()

    def discard(self, offset: int, length: int) -> None:
        """Give the space of ``length`` bytes back to the host; they may read as anything afterwards."""
        self._check(offset, length, writing=True)
        self.backend.discard_range(offset, length)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:
        """Make ``length`` bytes read as zeroes; with ``unmap`` their space is given back."""
        self._check(offset, length, writing=True)
        self.backend.zero_range(offset, length, unmap)

    def _check(self, offset: int, length: int, *, writing: bool = False) -> None:
        if writing and self.read_only:
            raise PermissionError(f"{self.name} is read-only")
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"bytes {offset} to {offset + length} are not all inside {self.name}")
