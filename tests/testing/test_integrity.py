"""The integrity run finds what is wrong, and nothing where all is well."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtio.devices.blk import Blk as BlkDevice
from virtio.drivers import Blk
from virtio.errors import UsageError
from virtio.service import serving
from virtio.storage import Storage
from virtio.storage.file import FileStorage
from virtio.storage.residence import mappable
from virtio.testing.integrity import IntegrityOptions, IntegrityResult, run_integrity
from virtio.testing.integrity.run import IntegrityRun

MIB = 1 << 20
SPAN = 4 * MIB
OPTIONS = IntegrityOptions(requests=4000, depth=16, span=SPAN, flush_every=100)
SECTOR = 512


class Lying(Storage):
    """Memory that does something else once in a while, and says nothing."""

    def __init__(self, lie: str = "") -> None:
        super().__init__(SPAN + MIB)
        self.data = bytearray(self.size)
        self.lie = lie
        self.writes = 0
        self.sizes: set[int] = set()
        self.flushing = self.most_flushing = 0
        self.lock = threading.Lock()

    def flush(self) -> None:
        with self.lock:
            self.flushing += 1
            self.most_flushing = max(self.flushing, self.most_flushing)
        time.sleep(0.002)
        with self.lock:
            self.flushing -= 1

    def read(self, offset: int, buffer: memoryview) -> None:
        self.sizes.add(len(buffer))
        buffer[:] = self.data[offset : offset + len(buffer)]

    def write(self, offset: int, data: memoryview) -> None:
        written = bytearray(data)
        self.writes += 1
        if self.writes % 50 == 0 and any(written):
            if self.lie == "lost":
                return
            if self.lie == "fails":
                raise OSError(errno.EIO, "no")
            if self.lie == "bit":
                written[-1] ^= 0x10
            elif self.lie == "elsewhere":
                offset = offset - SECTOR if offset else len(written)
        self.data[offset : offset + len(written)] = written


@contextmanager
def driven(device: BlkDevice, folder: Path, *, packed: bool = False) -> Iterator[Blk]:
    path = str(folder / "disk.sock")
    with (
        device,
        serving(device, path),
        Blk.connect(path, num_queues=2, queue_size=128, packed=packed) as disk,
    ):
        yield disk


def check(storage: Storage, folder: Path, options: IntegrityOptions = OPTIONS) -> IntegrityResult:
    with driven(BlkDevice(storage, num_queues=2), folder) as disk:
        return run_integrity(disk, options)


def test_a_good_disk_is_sound(tmp_path: Path) -> None:
    result = check(Lying(), tmp_path)
    assert result.sound
    assert (result.errors, result.wrong, result.first_wrong) == (0, {}, None)
    assert set(result.kinds) >= {"IN", "OUT", "FLUSH", "WRITE_ZEROES"}
    assert sum(result.kinds.values()) == result.requests == 4000 + SPAN // MIB
    assert result.sectors_checked > SPAN // SECTOR


def test_requests_are_of_all_sizes_up_to_the_largest(tmp_path: Path) -> None:
    storage = Lying()
    options = IntegrityOptions(requests=2000, depth=16, span=SPAN, largest=1024, range_every=0)
    assert check(storage, tmp_path, options).sound
    assert storage.sizes & set(range(MIB // 2)) == {512, 1024}
    options = IntegrityOptions(requests=4000, depth=16, span=SPAN, range_every=0)
    assert check(storage, tmp_path, options).sound
    assert len(storage.sizes) > 64
    assert max(storage.sizes) > MIB // 2


def test_flushes_overlap(tmp_path: Path) -> None:
    storage = Lying()
    options = IntegrityOptions(requests=4000, depth=16, span=SPAN, flush_every=50)
    assert check(storage, tmp_path, options).sound
    assert storage.most_flushing > 1


@pytest.mark.parametrize(
    ("lie", "verdict"), [("bit", "corrupt"), ("lost", "stale"), ("elsewhere", "misplaced")]
)
def test_a_lying_disk_is_found_out(tmp_path: Path, lie: str, verdict: str) -> None:
    result = check(Lying(lie), tmp_path)
    assert not result.sound
    assert result.wrong[verdict] > 0
    assert result.errors == 0
    assert result.first_wrong is not None


def test_an_error_is_not_sound(tmp_path: Path) -> None:
    result = check(Lying("fails"), tmp_path)
    assert not result.sound
    assert (result.errors > 0, result.last_status, result.wrong) == (True, 1, {})


# Each fault alone, between the requests and the reading of everything.

NO_RANGES = IntegrityOptions(depth=16, span=SPAN, range_every=0)


def meddle(folder: Path, kind: str, *, packed: bool) -> IntegrityResult:
    """Half of the requests, the fault, the reading."""
    path = folder / "disk.img"
    path.touch()
    os.truncate(path, SPAN)
    fd = os.open(path, os.O_RDWR)
    with (
        driven(BlkDevice(path, num_queues=2), folder, packed=packed) as disk,
        IntegrityRun(disk, NO_RANGES) as run,
    ):
        run.mingle(6000)
        older = os.pread(fd, SPAN, 0)
        run.mingle(6000)
        newer = os.pread(fd, SPAN, 0)
        changed = [at for at in range(0, SPAN, SECTOR) if older[at : at + 16] != newer[at : at + 16]]
        at = changed[len(changed) // 2]
        if kind == "corrupt":
            os.pwrite(fd, bytes([newer[at + 200] ^ 1]), at + 200)
        elif kind == "stale":
            os.pwrite(fd, older[at : at + SECTOR], at)
        elif kind == "zeroed":
            os.pwrite(fd, bytes(SECTOR), at)
        elif kind == "misplaced":
            os.pwrite(fd, newer[at : at + SECTOR], at + SECTOR)
            at += SECTOR
        run.sweep()
        result = run.result()
    os.close(fd)
    assert result.first_wrong == (at if kind else None)
    return result


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("", {}),
        ("corrupt", {"corrupt": 1}),
        ("stale", {"stale": 1}),
        ("zeroed", {"stale": 1}),
        ("misplaced", {"misplaced": 1}),
    ],
)
def test_one_wrong_sector_is_found_and_named(
    tmp_path: Path, kind: str, wrong: dict[str, int], packed: bool
) -> None:
    assert meddle(tmp_path, kind, packed=packed).wrong == wrong


def test_what_an_earlier_run_wrote_is_not_taken_for_ours(tmp_path: Path) -> None:
    storage = Lying()
    assert check(storage, tmp_path).sound
    earlier = bytes(storage.data)
    with (
        driven(BlkDevice(storage, num_queues=2), tmp_path) as disk,
        IntegrityRun(disk, IntegrityOptions(depth=16, span=SPAN, seed=2)) as run,
    ):
        run.mingle(4000)
        storage.data[:] = earlier
        run.sweep()
        assert run.result().wrong["corrupt"] > 1000


@pytest.mark.parametrize(
    "options",
    [
        IntegrityOptions(depth=33, span=SPAN),
        IntegrityOptions(depth=0, span=SPAN),
        IntegrityOptions(depth=16, span=SPAN + 100),
        IntegrityOptions(depth=16, span=SPAN + 2 * MIB),
        IntegrityOptions(depth=16, span=4096),
        IntegrityOptions(depth=16, span=SPAN, largest=2 * MIB),
        IntegrityOptions(depth=16, span=SPAN, largest=1000),
        IntegrityOptions(depth=16, span=SPAN, largest=0),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, options: IntegrityOptions) -> None:
    with driven(BlkDevice(Lying(), num_queues=2), tmp_path) as disk, pytest.raises(UsageError):
        run_integrity(disk, options)


def copied(storage: FileStorage) -> bool:
    """Whether requests were copies from the file's mapping and to it."""
    stats = storage.backend.stats()  # type: ignore[attr-defined]
    return stats["reads"] > 0 and stats["writes"] > 0


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_copies_from_and_to_the_mapping_are_among_what_is_checked(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(SPAN))
    with (
        FileStorage(path) as storage,
        driven(BlkDevice(storage, num_queues=2), tmp_path, packed=packed) as disk,
    ):
        options = IntegrityOptions(depth=16, span=SPAN, range_every=0, flush_every=0)
        with IntegrityRun(disk, options) as run:
            for turn in range(1000):
                run.mingle(8000)
                # The run begins with a file that is not all in memory, and what is not stays so for a while.
                if turn >= 12 and (not mappable(storage.fd) or copied(storage)):
                    break
                if turn % 4 == 3:
                    os.posix_fadvise(storage.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            run.sweep()
            assert run.result().sound
        if mappable(storage.fd):
            assert copied(storage)
