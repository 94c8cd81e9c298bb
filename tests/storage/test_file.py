from __future__ import annotations

import logging
import os
import random
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio import errors, storage

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(1).randbytes(MIB))
    return path


def read(disk: storage.Storage, offset: int, length: int) -> bytes:
    data = bytearray(length)
    disk.read(offset, memoryview(data))
    return bytes(data)


def blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("direct", [False, True])
def test_bytes_arrive_in_the_file(image: Path, direct: bool) -> None:
    with storage.FileStorage(image, direct=direct) as disk:
        before = image.read_bytes()
        assert read(disk, 512, 1024) == before[512:1536]
        disk.write(4096, memoryview(b"\xa5" * 8192))
        disk.flush()
        assert read(disk, 4096, 8192) == b"\xa5" * 8192
    after = image.read_bytes()
    assert after == before[:4096] + b"\xa5" * 8192 + before[12288:]


def test_direct_with_parts_of_blocks_and_unaligned_memory(image: Path) -> None:
    """Every offset and length in sectors, from memory at an odd address: what lies beside stays."""
    oracle = bytearray(image.read_bytes())
    rng = random.Random(2)
    with storage.FileStorage(image, direct=True) as disk:
        coarse = type(disk.backend)(disk.fd, False, 4096)
        for _ in range(150):
            sector, count = rng.randrange(2040), rng.randrange(1, 40)
            offset, length = sector * 512, min(count, 2048 - sector) * 512
            data = rng.randbytes(length)
            coarse.write_from(offset, memoryview(b"x" + data)[1:], rng.random() < 0.1)
            oracle[offset : offset + length] = data
            sector = rng.randrange(2040)
            found = bytearray(1 + 8 * 512)
            coarse.read_into(sector * 512, memoryview(found)[1:])
            assert found[1:] == oracle[sector * 512 : sector * 512 + 4096]
    assert image.read_bytes() == oracle


def test_direct_request_larger_than_the_bounce_buffer(tmp_path: Path) -> None:
    path = tmp_path / "large.img"
    path.write_bytes(bytes(4 * MIB))
    data = random.Random(3).randbytes(3 * MIB)
    with storage.FileStorage(path, direct=True) as disk:
        coarse = type(disk.backend)(disk.fd, False, 4096)
        coarse.write_from(1536, memoryview(b"x" + data)[1:])
        found = bytearray(1 + 3 * MIB)
        coarse.read_into(1536, memoryview(found)[1:])
        assert found[1:] == data
    assert path.read_bytes()[1536 : 1536 + 3 * MIB] == data
    assert path.stat().st_size == 4 * MIB


def test_discard_gives_space_back(image: Path) -> None:
    with storage.FileStorage(image) as disk:
        assert disk.can_discard
        disk.flush()
        before = blocks(image)
        disk.discard(0, MIB // 2)
        assert blocks(image) <= before - MIB // 2
        assert image.stat().st_size == MIB


@pytest.mark.parametrize("unmap", [False, True])
def test_write_zeroes(image: Path, unmap: bool) -> None:
    data = image.read_bytes()
    with storage.FileStorage(image) as disk:
        disk.write_zeroes(512, 700 * 512, unmap=unmap)
        disk.flush()
        assert read(disk, 0, MIB) == data[:512] + bytes(700 * 512) + data[701 * 512 :]
        assert (blocks(image) < MIB) == unmap


def test_write_zeroes_where_the_file_system_has_no_such_thing() -> None:
    path = Path(f"/dev/shm/virtio-test-{os.getpid()}.img")
    path.write_bytes(b"\xff" * MIB)
    try:
        with storage.FileStorage(path) as disk:
            disk.write_zeroes(512, 300 * 512)
            assert path.read_bytes() == b"\xff" * 512 + bytes(300 * 512) + b"\xff" * (MIB - 301 * 512)
    finally:
        path.unlink()


def test_a_torn_tail_is_not_served(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.truncate(image, MIB + 100)
    with caplog.at_level(logging.WARNING), storage.FileStorage(image) as disk:
        assert disk.size == MIB
    assert "last 100 bytes" in caplog.text


def test_outside_the_disk(image: Path) -> None:
    with storage.FileStorage(image) as disk:
        for offset, length in ((MIB, 512), (-512, 512), (MIB - 512, 1024)):
            with pytest.raises(ValueError, match="inside"):
                read(disk, offset, length)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(errors.StorageMissingError, match=r"no\.img does not exist") as caught:
        storage.FileStorage(tmp_path / "no.img")
    assert "truncate" in caught.value.report()
    assert caught.value.exit_status == 4


def test_directories_and_devices_are_no_disks(tmp_path: Path) -> None:
    with pytest.raises(errors.StorageKindError, match="is a directory"):
        storage.FileStorage(tmp_path)
    with pytest.raises(errors.StorageKindError, match="a character device"):
        storage.FileStorage("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.StorageKindError, match="a pipe"):
        storage.FileStorage(tmp_path / "pipe")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(errors.StorageSizeError):
        storage.FileStorage(tmp_path / "empty")


AS_NOBODY = """
import os, sys
from virtio import storage, errors
os.setgid(65534); os.setuid(65534)
try:
    storage.FileStorage(sys.argv[1])
except errors.StoragePermissionError as error:
    print(error.code)
with storage.FileStorage(sys.argv[1], read_only=True) as disk:
    print(disk.size)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="drops root's rights")
def test_not_writable(image: Path) -> None:
    for folder in image.parents:
        if folder == Path("/tmp"):
            break
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    image.chmod(0o644)
    ran = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, image], capture_output=True, text=True, check=False
    )
    assert ran.stdout.split() == ["E-STORAGE-PERMISSION", str(MIB)], ran.stderr


def test_resize_tells_before_a_shrink_and_after_a_growth(image: Path) -> None:
    seen: list[tuple[int, int]] = []
    with storage.FileStorage(image) as disk:
        disk.on_resize(lambda size: seen.append((size, image.stat().st_size)))
        disk.resize(2 * MIB)
        disk.resize(MIB // 2)
        assert image.stat().st_size == disk.size == MIB // 2
    assert seen == [(2 * MIB, 2 * MIB), (MIB // 2, 2 * MIB)]


def test_refresh_takes_over_what_others_did(image: Path) -> None:
    seen: list[int] = []
    with storage.FileStorage(image, read_only=True) as disk:
        disk.on_resize(seen.append)
        assert disk.refresh() == MIB
        os.truncate(image, 3 * MIB)
        assert disk.refresh() == disk.size == 3 * MIB
    assert seen == [3 * MIB]


@pytest.mark.parametrize("size", [0, 100, 513])
def test_sizes_that_cannot_be(image: Path, size: int) -> None:
    with storage.FileStorage(image) as disk, pytest.raises(errors.StorageSizeError):
        disk.resize(size)


def test_resize_of_a_read_only_disk(image: Path) -> None:
    with (
        storage.FileStorage(image, read_only=True) as disk,
        pytest.raises(errors.StorageSizeError, match="read-only"),
    ):
        disk.resize(2 * MIB)


@pytest.fixture
def small_files() -> Iterator[int]:
    limit = 2 * MIB
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_growth_the_host_refuses_changes_nothing(image: Path, small_files: int) -> None:
    with storage.FileStorage(image) as disk:
        with pytest.raises(errors.StorageSizeError, match="cannot have"):
            disk.resize(2 * small_files)
        assert disk.size == MIB


def test_a_file_truncated_by_others_is_an_error_not_a_crash(image: Path) -> None:
    with storage.FileStorage(image) as disk:
        os.truncate(image, 4096)
        with pytest.raises(OSError, match="Input/output error"):
            read(disk, 2048, 4096)
