"""Nothing acknowledged is lost by a kill, nothing promised by a power cut; and a loss is noticed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtio.errors import HostError, UsageError
from virtio.storage.residence import mappable
from virtio.testing.integrity.crashes import WAYS, CrashResult, Way, run_crashes, run_way
from virtio.testing.integrity.ledger import PLACE, SECTOR, SIZE, Ledger
from virtio.testing.integrity.medium import Medium, medium
from virtio.testing.page_cache import is_in_memory, page_cache

MAPPED = WAYS[0]
THREADS = WAYS[-1]  # flush by the fdatasync of the C library, which a test can replace
HARDLY = 4  # crashes


@pytest.fixture
def durable(tmp_path: Path) -> Path:
    """A folder on a medium."""
    with (tmp_path / "probe").open("wb") as file:
        if is_in_memory(file.fileno()):
            pytest.skip("files in memory are never durable")
    return tmp_path


@contextmanager
def medium_or_skip(folder: Path) -> Iterator[Medium]:
    try:
        made = medium(folder)
        disk = made.__enter__()
    except HostError as error:
        pytest.skip(str(error))
    try:
        yield disk
    finally:
        made.__exit__(None, None, None)


def asks_the_kernel(folder: Path) -> bool:
    with (folder / "probe").open("rb") as file:
        return page_cache(file.fileno()) is not None


def check(result: CrashResult, folder: Path) -> None:
    assert result.sound, result
    assert result.ledger.acknowledged
    assert (result.ledger.flushes > 0) == (result.way.cache != "writethrough")
    assert result.mapped == (result.way.query == "map=on")
    if asks_the_kernel(folder):
        assert result.checks > 0


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_killed_service_loses_nothing_it_acknowledged(durable: Path, way: Way) -> None:
    check(run_way("kill", way, HARDLY, durable), durable)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_power_cut_loses_nothing_that_was_promised(durable: Path, way: Way) -> None:
    with medium_or_skip(durable):
        pass
    check(run_way("cut_power", way, HARDLY, durable), durable)
    assert [path.name for path in durable.iterdir()] == ["probe"]


@pytest.mark.parametrize("kind", ["kill", "cut_power"])
def test_what_went_through_the_mapping_is_among_it(durable: Path, kind: str) -> None:
    with (durable / "probe").open("rb") as file:
        if not mappable(file.fileno()):
            pytest.skip("not mapped on this file system")
    if kind == "cut_power":
        with medium_or_skip(durable):
            pass
    for seed in range(10):
        result = run_way(kind, MAPPED, HARDLY, durable, seed)
        assert result.sound, result
        if result.mapped_bytes:
            return
    pytest.fail("nothing was written through the mapping")


# A service whose flushes do nothing.


@pytest.fixture
def no_flush(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("makes a library with a C compiler")
    library = tmp_path_factory.mktemp("library") / "no_flush.so"
    source = "int fdatasync(int fd) { (void)fd; return 0; }"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-x", "c", "-o", library, "-"], input=source, text=True, check=True
    )
    monkeypatch.setenv("LD_PRELOAD", str(library))


@pytest.mark.usefixtures("no_flush")
def test_flushes_that_do_nothing_are_found_out_by_asking(durable: Path) -> None:
    if not asks_the_kernel(durable):
        pytest.skip("this kernel does not tell what is dirty")
    result = run_way("kill", THREADS, 2, durable)
    assert not result.sound
    assert "not on the medium after a promise" in str(result)


@pytest.mark.usefixtures("no_flush")
def test_flushes_that_do_nothing_are_found_out_by_a_power_cut(durable: Path) -> None:
    with medium_or_skip(durable):
        pass
    result = run_way("cut_power", THREADS, 2, durable)
    assert any("generation 0, not" in fault for fault in result.faults)


# The medium.


def test_a_power_cut_takes_what_was_not_synced(tmp_path: Path) -> None:
    with medium_or_skip(tmp_path) as disk:
        path = disk.folder / "file"
        with path.open("wb", buffering=0) as file:
            file.write(b"synced")
            os.fsync(file.fileno())
            folder = os.open(disk.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
            file.write(b" and not")
            with disk.after_power_cut() as after:
                assert (after / "file").read_bytes() == b"synced"
            os.fdatasync(file.fileno())
            with disk.after_power_cut() as after:
                assert (after / "file").read_bytes() == b"synced and not"
        assert path.read_bytes() == b"synced and not"
    assert list(tmp_path.iterdir()) == []


def test_a_medium_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HostError, match="only root"), medium(tmp_path):
        pass
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match=r"mkfs.ext4 cannot be run"), medium(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done(tmp_path: Path) -> None:
    for kind, count in (("pull", 1), ("kill", -1)):
        with pytest.raises(UsageError):
            list(run_crashes(kind, count, tmp_path, 1))
    shm = Path("/dev/shm")
    if shm.is_dir() and os.access(shm, os.W_OK):
        with pytest.raises(UsageError, match="in memory"):
            list(run_crashes("kill", 1, shm, 1))


# The ledger.


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(writeback=True, rng=random.Random(1))


def test_the_ledger_takes_what_was_acknowledged_or_begun_later(ledger: Ledger) -> None:
    disk = bytearray(SIZE)
    first, second = ledger.begin(3), ledger.begin(3)
    assert len(first) == len(second) == ledger.length(3)
    for record, generation in ((bytes(len(first)), 0), (first, 1), (second, 2)):
        disk[3 * PLACE : 3 * PLACE + len(record)] = record
        assert ledger.faults(bytes(disk), {3: generation}) == []
        lost = ledger.faults(bytes(disk), {3: generation + 1})
        assert len(lost) == len(record) // SECTOR
        assert f"generation {generation}, not {generation + 1} to 2" in lost[0]


def test_the_ledger_knows_whose_a_record_is(ledger: Ledger) -> None:
    record = ledger.begin(1)
    ledger.begin(0)
    assert ledger.faults(record + bytes(SIZE - len(record)), {})[0] == "byte 0: a record of place 1, not of 0"


def test_a_write_cut_short_may_tear_a_sector_that_was_not_acknowledged(ledger: Ledger) -> None:
    disk = bytearray(SIZE)
    first, second = ledger.begin(3), ledger.begin(3)
    disk[3 * PLACE : 3 * PLACE + len(first)] = second[:700] + first[700:]
    assert ledger.faults(bytes(disk), {3: 1}) == []
    assert ledger.torn == 1
    ledger.begun[3] = 1
    assert "torn, though generation 1 was complete" in ledger.faults(bytes(disk), {3: 1})[1]
    ledger.begun[3] = 2
    disk[3 * PLACE + 600] = 0xFF
    assert "bytes that are of no generation 1 to 2" in ledger.faults(bytes(disk), {3: 1})[0]


def test_a_flush_promises_what_was_acknowledged_when_it_was_sent(ledger: Ledger) -> None:
    ledger.begin(3)
    assert ledger.acknowledge(3) == ledger.length(3)
    sent = dict(ledger.acknowledged)
    ledger.begin(3)
    ledger.acknowledge(3)
    assert ledger.durable == {}
    ledger.promise(sent)
    assert ledger.durable == {3: 1}
    ledger.promise({3: 2})
    ledger.promise(sent)
    assert ledger.durable == {3: 2}


def test_writing_through_promises_at_once() -> None:
    ledger = Ledger(writeback=False, rng=random.Random(1))
    ledger.begin(3)
    ledger.acknowledge(3)
    assert ledger.durable == {3: 1}
