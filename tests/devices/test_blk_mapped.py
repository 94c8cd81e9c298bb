"""The block device on a file that is reached through a mapping, while others do to it what they like."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio.devices.blk import Blk
from virtio.spec import blk as spec
from virtio.storage.mapped_backend import MappedBackend
from virtio.storage.residence import mappable

pytestmark = pytest.mark.usefixtures("aio")  # each test with threads and with io_uring

MIB = 1 << 20
SECTOR = 512
STRIPE = 64 << 10  # bytes that one queue has to itself, in turn: every chunk is used by all queues
QUEUES = 4
SIZE = 8 * MIB

EVICT = """
while True:
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 4 << 20, os.POSIX_FADV_DONTNEED)
    time.sleep(0.002)
"""
CUT = """
data = os.pread(fd, 8 << 20, 0)
while True:
    os.ftruncate(fd, 4 << 20)
    time.sleep(0.003)
    os.pwrite(fd, data[4 << 20:], 4 << 20)
    time.sleep(0.02)
"""


@pytest.fixture(params=["disk", "memory"])
def image(request: pytest.FixtureRequest) -> Iterator[Path]:
    place = "/dev/shm" if request.param == "memory" else "/var/tmp"
    with tempfile.TemporaryDirectory(prefix="virtio-test-", dir=place) as folder:
        path = Path(folder) / "disk.img"
        path.write_bytes(random.Random(1).randbytes(SIZE))
        with open(path, "rb+") as file:
            if not mappable(file.fileno()):
                pytest.skip(f"files in {place} are not mapped")
        yield path


@pytest.fixture
def meddler(request: pytest.FixtureRequest, image: Path) -> Iterator[subprocess.Popen[bytes]]:
    code = f"import os, time\nfd = os.open({str(image)!r}, os.O_RDWR)\n" + request.param
    process = subprocess.Popen([sys.executable, "-c", code])
    yield process
    process.kill()
    process.wait()


def header(type: int, sector: int) -> bytes:
    return struct.pack("<IIQ", type, 0, sector)


def span(rng: random.Random, stripe: int) -> tuple[int, int]:
    """Offset and length of a request within a stripe."""
    sector = rng.randrange(STRIPE // SECTOR)
    count = rng.choice([1, 8, rng.randrange(1, STRIPE // SECTOR)])
    return stripe * STRIPE + sector * SECTOR, min(count, STRIPE // SECTOR - sector) * SECTOR


@pytest.mark.parametrize("meddler", [EVICT], indirect=True)
@pytest.mark.parametrize("packed", [False, True])
def test_random_requests_on_several_queues(image: Path, guest, packed: bool, meddler) -> None:  # type: ignore[no-untyped-def]
    """Against an array of bytes, with flushes and zeroes between, while someone drops the page cache."""
    rng = random.Random(2)
    oracle = bytearray(image.read_bytes())
    with Blk(f"file:{image}?lock=off", num_queues=QUEUES) as device:
        backend = device.storage.backend
        assert isinstance(backend, MappedBackend)
        driver = guest(device, size=64, packed=packed)
        start = time.monotonic()
        copies = 0
        while (passed := time.monotonic() - start) < 2 or (copies == 0 and passed < 20):
            driver.recycle()
            # A flush makes it forget which chunks are written often: later there is none.
            kinds = 1.0 if passed < 1 else 0.97
            expected: list[tuple[int, bytes | None]] = []
            for queue in range(QUEUES):
                # What is in flight at the same time is in different stripes, so that its order says nothing.
                for stripe in rng.sample(range(queue, SIZE // STRIPE, QUEUES), 8):
                    expected.append(
                        submit(driver, rng.random() * kinds, rng, oracle, queue, *span(rng, stripe))
                    )
                driver.kick(queue)
            tokens = [token for token, _ in expected]
            for answer, (_, data) in zip(driver.wait(*tokens), expected, strict=True):
                assert answer.status == spec.S_OK
                assert data is None or answer.data == data
            copies = min(backend.stats()["reads"], backend.stats()["writes"])
        driver.close()
        assert copies > 0
    assert image.read_bytes() == oracle


def submit(driver, kind: float, rng: random.Random, oracle: bytearray, queue: int, offset: int, length: int):  # type: ignore[no-untyped-def]
    """Offer a request, and do it to the oracle. Its token and what it should read."""
    at = rng.choice([0, 512, 1])
    if kind < 0.5:
        token = driver.submit([header(spec.T_IN, offset // SECTOR)], [length, 1], queue=queue, at=at)
        return token, bytes(oracle[offset : offset + length])
    if kind < 0.97:
        data = rng.randbytes(length)
        oracle[offset : offset + length] = data
        return driver.submit([header(spec.T_OUT, offset // SECTOR), data], [1], queue=queue, at=at), None
    if kind < 0.98:
        return driver.submit([header(spec.T_FLUSH, 0)], [1], queue=queue), None
    oracle[offset : offset + length] = bytes(length)
    unmap = rng.randrange(2)
    segment = struct.pack("<QII", offset // SECTOR, length // SECTOR, unmap)
    return driver.submit([header(spec.T_WRITE_ZEROES, 0), segment], [1], queue=queue), None


@pytest.mark.parametrize("meddler", [CUT], indirect=True)
def test_a_file_that_shrinks_and_grows(image: Path, guest, meddler) -> None:  # type: ignore[no-untyped-def]
    """Every read has the file's bytes or says that it failed; only where the file was cut off may it."""
    rng = random.Random(3)
    data = image.read_bytes()
    good = bad = 0
    with Blk(f"file:{image}?lock=off", num_queues=2) as device:
        backend = device.storage.backend
        assert isinstance(backend, MappedBackend)
        driver = guest(device, size=64)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            driver.recycle()
            asked = []
            for index in range(16):
                offset = rng.randrange(SIZE // 4096) * 4096
                token = driver.submit([header(spec.T_IN, offset // SECTOR)], [4096, 1], queue=index % 2)
                asked.append((token, offset))
            driver.kick(0)
            driver.kick(1)
            for answer, (_, offset) in zip(driver.wait(*[token for token, _ in asked]), asked, strict=True):
                if answer.status == spec.S_OK:
                    assert answer.data == data[offset : offset + 4096]
                    good += 1
                else:
                    assert answer.status == spec.S_IOERR
                    assert answer.data == bytes(4096)
                    assert offset >= 4 * MIB
                    bad += 1
        driver.close()
        stats = backend.stats()
        assert min(good, bad, stats["reads"], stats["repairs"]) > 0
        assert not driver.faults


def test_write_through_is_not_copied(image: Path, guest) -> None:  # type: ignore[no-untyped-def]
    with Blk(f"file:{image}?lock=off", cache="writethrough") as device:
        driver = guest(device)
        for _ in range(4):
            for offset in range(0, MIB, 64 << 10):
                answer = driver.ask([header(spec.T_OUT, offset // SECTOR), bytes(64 << 10)], [1])
                assert answer.status == spec.S_OK
                driver.ask([header(spec.T_IN, offset // SECTOR)], [64 << 10, 1])
        driver.close()
        assert device.storage.backend.stats()["reads"] > 0
        assert device.storage.backend.stats()["writes"] == 0
    assert os.stat(image).st_size == SIZE
    assert image.read_bytes()[:MIB] == bytes(MIB)
