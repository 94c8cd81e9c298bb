"""What the queues of one disk share."""

from __future__ import annotations

import cython
from cython.cimports.libc.string import memcpy
from cython.cimports.virtio.devices.blk.request import ID_BYTES
from cython.cimports.virtio.memory import atomic


class Disk:
    """What the queues of one block device share; each attribute may change while they run.

    ``identity`` is the answer to GET_ID, at most 20 bytes. ``name`` is what log lines call the disk.
    """

    def __init__(
        self, backend: Backend, size: int, *, name: str, read_only: bool, writeback: bool, identity: bytes
    ) -> None:
        self.backend = backend
        self.name = name
        self.read_only = read_only
        self.size = size
        self.writeback = writeback
        padded = identity[:ID_BYTES].ljust(ID_BYTES, b"\0")
        memcpy(self.identity, cython.cast(cython.p_char, padded), ID_BYTES)

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return atomic.load_u64(cython.address(self.bytes), atomic.RELAXED)

    @size.setter
    def size(self, size: int) -> None:
        atomic.store_u64(cython.address(self.bytes), size, atomic.RELAXED)

    @property
    def writeback(self) -> bool:
        """Whether a write may be acknowledged before it is durable."""
        return atomic.load_int(cython.address(self.written_back), atomic.RELAXED) != 0

    @writeback.setter
    def writeback(self, writeback: bool) -> None:
        atomic.store_int(cython.address(self.written_back), 1 if writeback else 0, atomic.RELAXED)
