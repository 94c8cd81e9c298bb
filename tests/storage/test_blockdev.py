from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio import storage
from virtio.errors import StorageLockedError, StorageSizeError

MIB = 1 << 20


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A loop device over a file of 8 MiB."""
    if os.getuid() != 0 or not shutil.which("losetup"):
        pytest.skip("makes a loop device")
    image = tmp_path / "loop.img"
    image.write_bytes(bytes(8 * MIB))
    ran = subprocess.run(["losetup", "--show", "-f", image], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip(f"no loop device: {ran.stderr}")
    name = ran.stdout.strip()
    yield name
    subprocess.run(["losetup", "-d", name], check=True)


@pytest.mark.parametrize("direct", [False, True])
def test_a_block_device(device: str, direct: bool) -> None:
    with storage.open_storage(device, cache="none" if direct else "writeback") as disk:
        assert disk.size == 8 * MIB
        assert disk.logical_block_size == 512
        assert disk.can_discard
        disk.write(0, memoryview(b"\xff" * MIB))
        disk.write_zeroes(512, 1024)
        disk.write_zeroes(8192, 65536, unmap=True)
        disk.discard(MIB // 2, MIB // 2)
        disk.flush()
        found = bytearray(MIB // 2)
        disk.read(0, memoryview(found))
        wanted = bytearray(b"\xff" * (MIB // 2))
        wanted[512:1536] = bytes(1024)
        wanted[8192:73728] = bytes(65536)
        assert found == wanted


def test_a_block_device_in_use(device: str) -> None:
    with storage.open_storage(device):
        with pytest.raises(StorageLockedError, match=str(os.getpid())):
            storage.open_storage(device)
        with pytest.raises(StorageLockedError, match=str(os.getpid())):
            storage.open_storage(device, read_only=True)


def test_a_block_device_is_resized_by_others(device: str) -> None:
    with storage.open_storage(device) as disk:
        with pytest.raises(StorageSizeError, match="block device"):
            disk.resize(16 * MIB)
        backing = subprocess.run(
            ["losetup", "-n", "-O", "BACK-FILE", device], capture_output=True, text=True, check=True
        ).stdout.strip()
        os.truncate(backing, 16 * MIB)
        subprocess.run(["losetup", "-c", device], check=True)
        assert disk.refresh() == 16 * MIB
