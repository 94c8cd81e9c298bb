"""The disk as a file: any offset and length, on top of whole blocks."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from virtio.drivers.blk.disk import Blk

__all__ = ["BlkFile"]


class BlkFile(io.RawIOBase):
    """An unbuffered binary file over a disk; wrap it in ``io.BufferedRandom`` for many small accesses.

    A write that begins or ends within a block reads that block first. Closing flushes the disk, and leaves it
    connected.
    """

    def __init__(self, disk: Blk) -> None:
        super().__init__()
        self._disk = disk
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Unless the disk is read-only."""
        return not self._disk.read_only

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte; the end is the disk's capacity."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._disk.capacity}[whence]
        if base + offset < 0:
            raise ValueError("seek to before the start of the disk")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to the buffer's size; 0 at the end of the disk."""
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._disk.capacity - self._position))
        if length:
            start, data = self._read_blocks(self._position, length)
            view[:length] = data[self._position - start : self._position - start + length]
            self._position += length
        return length

    def write(self, data: ReadableBuffer) -> int:
        """Write up to the end of the disk; how much was written. OSError at the end."""
        view = memoryview(data).cast("B")
        length = max(0, min(len(view), self._disk.capacity - self._position))
        if view and not length:
            raise OSError(28, "the disk is full")
        if length:
            self._write_at(self._position, view[:length])
            self._position += length
        return length

    def truncate(self, size: int | None = None) -> int:
        """A disk has the size it has."""
        raise io.UnsupportedOperation("truncate")

    def close(self) -> None:
        """Flush and close the file, not the disk."""
        if not self.closed:
            try:
                if self.writable():
                    self._disk.flush()
            finally:
                super().close()

    def _write_at(self, position: int, data: memoryview) -> None:
        block = self._disk.block_size
        if position % block or len(data) % block:
            start, blocks = self._read_blocks(position, len(data))
            blocks[position - start : position - start + len(data)] = data
            self._disk.write(start, blocks)
        else:
            self._disk.write(position, data)

    def _read_blocks(self, position: int, length: int) -> tuple[int, bytearray]:
        block = self._disk.block_size
        start = position - position % block
        end = -(-(position + length) // block) * block
        return start, bytearray(self._disk.read(start, end - start))
