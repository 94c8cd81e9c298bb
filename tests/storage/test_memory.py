from __future__ import annotations

import os
import random

import pytest

from virtio import storage
from virtio.errors import StorageSizeError


def read(disk: storage.Storage, offset: int, length: int) -> bytes:
    data = bytearray(length)
    disk.read(offset, memoryview(data))
    return bytes(data)


def test_memory_keeps_what_is_written() -> None:
    oracle = bytearray(1 << 20)
    rng = random.Random(4)
    with storage.MemoryStorage(1 << 20) as disk:
        for _ in range(200):
            offset = rng.randrange(1 << 20)
            data = rng.randbytes(rng.randrange(1, min(5000, (1 << 20) - offset) + 1))
            disk.write(offset, memoryview(data))
            oracle[offset : offset + len(data)] = data
        assert read(disk, 0, 1 << 20) == oracle


@pytest.mark.parametrize("unmap", [False, True])
def test_zeroes_and_discards(unmap: bool) -> None:
    with storage.MemoryStorage(1 << 20) as disk:
        assert disk.fd is not None
        disk.write(0, memoryview(b"\xff" * (1 << 20)))
        disk.write_zeroes(512, 256 << 10, unmap=unmap)
        assert read(disk, 0, 512 + (256 << 10) + 1) == b"\xff" * 512 + bytes(256 << 10) + b"\xff"
        before = os.fstat(disk.fd).st_blocks
        disk.discard(512 << 10, 256 << 10)
        assert os.fstat(disk.fd).st_blocks == before - 512


def test_resize_cuts_off_for_good() -> None:
    with storage.MemoryStorage(1 << 20) as disk:
        disk.write(0, memoryview(b"\xff" * (1 << 20)))
        disk.resize(4096)
        disk.resize(2 << 20)
        assert read(disk, 0, 2 << 20) == b"\xff" * 4096 + bytes((2 << 20) - 4096)
        with pytest.raises(StorageSizeError, match="at most"):
            disk.resize(1 << 62)


def test_no_memory_is_used_before_it_is_written() -> None:
    with storage.MemoryStorage(1 << 40) as disk:
        assert disk.fd is not None
        disk.write((1 << 40) - 512, memoryview(bytes(512)))
        assert os.fstat(disk.fd).st_blocks <= 16


def test_null_moves_nothing() -> None:
    with storage.NullStorage(1 << 40) as disk:
        disk.write(0, memoryview(b"\xff" * 512))
        data = bytearray(b"\x5a" * 512)
        disk.read(0, memoryview(data))
        disk.discard(0, 1 << 40)
        disk.write_zeroes(0, 1 << 40)
        disk.flush()
        disk.resize(512)
        assert bytes(data) == b"\x5a" * 512
        assert disk.size == 512


class Plain(storage.Storage):
    """A disk of the plainest Python."""

    def __init__(self) -> None:
        super().__init__(4096)
        self.data = bytearray(4096)

    def read(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.data[offset : offset + len(buffer)]

    def write(self, offset: int, data: memoryview) -> None:
        self.data[offset : offset + len(data)] = data


def test_a_storage_of_ones_own_through_its_compiled_face() -> None:
    disk = Plain()
    disk.backend.write_from(512, b"\x11" * 1024)
    disk.backend.zero_range(1024, 512)
    found = bytearray(2048)
    disk.backend.read_into(0, found)
    assert found == bytes(512) + b"\x11" * 512 + bytes(1024)
    assert not disk.can_discard
    assert not disk.can_write_zeroes
    with pytest.raises(StorageSizeError, match="cannot be resized"):
        disk.resize(8192)


def test_its_exceptions_become_errnos(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Plain):
        def write(self, offset: int, data: memoryview) -> None:
            raise OSError(28, "full") if offset == 0 else ZeroDivisionError("a mistake")

    disk = Broken()
    with pytest.raises(OSError, match="No space left"):
        disk.backend.write_from(0, bytes(512))
    with pytest.raises(OSError, match="Input/output"):
        disk.backend.write_from(512, bytes(512))
    assert "ZeroDivisionError: a mistake" in caplog.text
