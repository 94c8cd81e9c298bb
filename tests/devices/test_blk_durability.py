"""What the disk said is durable has left the page cache, also what was stored through the mapping.

What is left when the service is killed is in tests/testing/test_integrity_crashes.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio.devices.blk import Blk as BlkDevice
from virtio.drivers import Blk
from virtio.service import serving
from virtio.storage.file import FileStorage
from virtio.testing.page_cache import page_cache

SIZE = 4 << 20


Pair = tuple[Blk, FileStorage]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Pair]:
    """A driver of a disk, and the file behind it."""
    path, socket = tmp_path / "disk.img", str(tmp_path / "disk.sock")
    path.write_bytes(os.urandom(SIZE))
    with FileStorage(path) as storage, BlkDevice(storage) as device, serving(device, socket):
        if page_cache(storage.fd) is None:
            pytest.skip("this kernel does not tell what is dirty")
        with Blk.connect(socket) as disk:
            yield disk, storage


def test_a_flush_covers_what_was_written_through_the_mapping(served: Pair) -> None:
    disk, storage = served
    flushed = 0
    for turn in range(400):
        before = storage.backend.stats()["writes"]  # type: ignore[attr-defined]
        disk.write(turn % 64 * 65536, bytes([turn % 251]) * 65536)
        if storage.backend.stats()["writes"] == before or turn % 8:  # type: ignore[attr-defined]
            continue
        assert page_cache(storage.fd).dirty > 0  # type: ignore[union-attr]
        disk.flush()
        assert page_cache(storage.fd)[1:3] == (0, 0)  # type: ignore[index]
        flushed += 1
    assert flushed > 0


def test_a_write_through_the_mapping_is_durable_when_it_is_said_to_be(served: Pair) -> None:
    disk, storage = served
    for turn in range(200):
        disk.write(turn % 64 * 65536, bytes([turn]) * 65536)
    assert page_cache(storage.fd).dirty > 0  # type: ignore[union-attr]
    disk.flush()
    disk.writeback = False
    for turn in range(100):
        disk.write(turn % 64 * 65536, bytes([turn + 1]) * 65536)
        assert page_cache(storage.fd)[1:3] == (0, 0)  # type: ignore[index]
