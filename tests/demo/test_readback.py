from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from virtio.demo import readback
from virtio.errors import DeviceError
from virtio.vm import programs

CONTENT = {"./a": b"one\n", "./sub/deeper/b": bytes(range(256)) * 100}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    mkfs = programs.locate("mkfs.ext4")
    if mkfs is None or programs.locate("debugfs") is None:
        pytest.skip("e2fsprogs is not installed")
    source = tmp_path / "source"
    for name, data in CONTENT.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (source / "link").symlink_to("a")
    subprocess.run([mkfs, "-q", "-d", source, tmp_path / "disk.img", "8M"], check=True)
    return tmp_path / "disk.img"


def test_every_file_has_its_checksum(image: Path, tmp_path: Path) -> None:
    found = readback.checksums(readback.require_debugfs(), image, tmp_path / "back")
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}


def test_damage_is_noticed(image: Path, tmp_path: Path) -> None:
    data = image.read_bytes()
    assert data.count(b"one\n") == 1
    image.write_bytes(data.replace(b"one\n", b"two\n"))
    found = readback.checksums(readback.require_debugfs(), image, tmp_path / "back")
    assert found["./a"] == hashlib.sha256(b"two\n").hexdigest()


def test_no_file_system(image: Path, tmp_path: Path) -> None:
    image.write_bytes(bytes(8 << 20))
    with pytest.raises(DeviceError, match="finds no files"):
        readback.checksums(readback.require_debugfs(), image, tmp_path / "back")


def test_the_output_of_sha256sum() -> None:
    assert readback.parse_sums("aa  ./x\nbb  ./with blank\n") == {"./x": "aa", "./with blank": "bb"}
