"""Images that are not raw are refused, since a guest would damage them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from virtio.errors import StorageFormatError, StorageUrlError
from virtio.storage import open_storage
from virtio.storage.formats import image_format


@pytest.mark.parametrize("name", ["qcow2", "VMDK", "VHDX", "VDI"])
def test_what_qemu_makes_is_recognised(name: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    program = shutil.which("qemu-img")
    assert program, "apt-get install qemu-utils"
    subprocess.run([program, "create", "-q", "-f", name.lower(), image, "4M"], check=True)
    assert image_format(image) == name
    with pytest.raises(StorageFormatError, match=f"is a {name} image") as caught:
        open_storage(image)
    assert "qemu-img convert -O raw" in caught.value.fix


@pytest.mark.parametrize("cache", ["writeback", "none"])
def test_its_bytes_can_be_served_all_the_same(cache: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"QFI\xfb".ljust(8192, b"\0"))
    with pytest.raises(StorageFormatError):
        open_storage(image, cache=cache)
    with open_storage(f"file:{image}?format=raw", cache=cache) as storage:
        data = bytearray(4096)
        storage.read(0, memoryview(data))
        assert data.startswith(b"QFI\xfb")


def test_only_raw_can_be_asked_for(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(8192))
    assert image_format(image) is None
    with pytest.raises(StorageUrlError, match="format is raw"):
        open_storage(f"file:{image}?format=qcow2")
