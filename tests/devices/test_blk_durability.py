"""What the device said is written survives its death, and what it said is durable has reached the medium."""

from __future__ import annotations

import os
import random
import signal
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import pytest

from virtio.devices.blk import Blk as BlkDevice
from virtio.drivers import Blk, Buffer
from virtio.errors import DeviceGoneError
from virtio.service import serving
from virtio.spec import blk
from virtio.storage.file import FileStorage
from virtio.testing.integrity.service import served
from virtio.testing.page_cache import page_cache

KILLS = int(os.environ.get("VIRTIO_KILLS", "5"))  # of each kind of service
MIB = 1 << 20
SIZE = 4 * MIB
PLACE = 16384  # bytes for each record
PLACES = SIZE // PLACE
SECTOR = 512
BATCH = 32


@dataclass
class Ledger:
    """What was asked of each place of the disk: the generation last begun, and the last acknowledged."""

    fd: int
    writeback: bool
    rng: random.Random
    begun: dict[int, int] = field(default_factory=dict)
    acknowledged: dict[int, int] = field(default_factory=dict)
    durable_checks: int = 0

    def length(self, place: int) -> int:
        """Each place has a record of a length of its own."""
        return SECTOR * (1 + place * 7919 % (PLACE // SECTOR))

    def record(self, place: int) -> bytes:
        self.begun[place] = self.begun.get(place, 0) + 1
        return struct.pack("<QQ", place, self.begun[place]) * (self.length(place) // 16)

    def check_durable(self) -> None:
        """Nothing of the file is only in memory: asked while no write is in flight."""
        found = page_cache(self.fd)
        if found is not None:
            assert (found.dirty, found.writeback) == (0, 0)
            self.durable_checks += 1

    def check_file(self) -> None:
        """Each sector is what was acknowledged or something begun later, as a whole."""
        data = os.pread(self.fd, SIZE, 0)
        for place, begun in self.begun.items():
            least = self.acknowledged.get(place, 0)
            for at in range(place * PLACE, place * PLACE + self.length(place), SECTOR):
                sector = data[at : at + SECTOR]
                found, generation = struct.unpack_from("<QQ", sector)
                assert sector == struct.pack("<QQ", found, generation) * (SECTOR // 16), "a torn sector"
                assert least <= generation <= begun, f"place {place}: {generation}, acknowledged {least}"
                assert found == place or generation == 0


def write_batch(disk: Blk, ledger: Ledger, buffers: list[Buffer]) -> None:
    """Some places at once, on whichever queue; what is acknowledged goes into the ledger as it comes."""
    places = {}
    queues = len(disk.queues)
    for buffer, place in zip(buffers, ledger.rng.sample(range(PLACES), len(buffers)), strict=True):
        record = ledger.record(place)
        buffer.view[: len(record)] = record
        part = buffer.slice(0, len(record))
        pieces = disk.transfer(blk.T_OUT, place * PLACE, part)
        request = disk.block_queues[place % queues].submit(pieces[0], disk._completed.append)
        assert request is not None
        places[request] = place
    while places:
        for request in disk.poll():
            place = places.pop(request)
            assert request.error is None or isinstance(request.error, DeviceGoneError), request.error
            if request.error is not None:
                raise request.error
            ledger.acknowledged[place] = ledger.begun[place]
        time.sleep(0)


def write_for_ever(disk: Blk, ledger: Ledger) -> None:
    """Until the device is gone."""
    buffers = [disk.buffer(PLACE) for _ in range(BATCH)]
    while True:
        for _ in range(ledger.rng.choice((1, 1, 4, 16)) if ledger.writeback else 1):
            write_batch(disk, ledger, buffers)
        if ledger.writeback:
            disk.flush()
        ledger.check_durable()


def kill_at_random(process: Popen[bytes], rng: random.Random, most: float) -> threading.Timer:
    timer = threading.Timer(rng.uniform(0.005, most), os.kill, (process.pid, signal.SIGKILL))
    timer.start()
    return timer


def is_mapped(process: Popen[bytes], path: Path) -> bool:
    return str(path) in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize(
    ("query", "cache"),
    [
        ("map=on", "writeback"),
        ("map=off", "writeback"),
        ("map=on", "writethrough"),
        ("map=off", "writethrough"),
        ("direct=on", "none"),
    ],
)
def test_a_killed_service_loses_nothing_it_acknowledged(tmp_path: Path, query: str, cache: str) -> None:
    path, socket = tmp_path / "disk.img", tmp_path / "disk.sock"
    path.touch()
    os.truncate(path, SIZE)
    fd = os.open(path, os.O_RDWR)
    ledger = Ledger(fd, cache != "writethrough", random.Random(f"{query} {cache}"))
    asked = page_cache(fd) is not None
    kills = 0
    # A busy machine may not come to its first flush in time: then it is given more.
    while kills < KILLS or (asked and not ledger.durable_checks):
        kills += 1
        with (
            served(
                f"file:{path}?{query}", socket, "--cache", cache, "--num-queues", "2", say=False
            ) as process,
            Blk.connect(str(socket), num_queues=2, packed=ledger.rng.choice((False, True))) as disk,
        ):
            assert disk.writeback == ledger.writeback
            assert is_mapped(process, path) == (query == "map=on")
            timer = kill_at_random(process, ledger.rng, 0.12 + kills // KILLS * kills * 0.1)
            with pytest.raises(DeviceGoneError):
                write_for_ever(disk, ledger)
            timer.join()
            assert process.wait(10) == -signal.SIGKILL
        ledger.check_file()
    assert ledger.acknowledged
    os.close(fd)


def test_the_check_finds_lost_bytes(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    with path.open("r+b", buffering=0) as file:
        ledger = Ledger(file.fileno(), True, random.Random(1))
        first, second = ledger.record(3), ledger.record(3)
        file.seek(3 * PLACE)
        file.write(first)
        if page_cache(file.fileno()) is not None:
            with pytest.raises(AssertionError):
                ledger.check_durable()
        ledger.acknowledged[3] = 1
        ledger.check_file()
        ledger.acknowledged[3] = 2
        with pytest.raises(AssertionError, match="acknowledged 2"):
            ledger.check_file()
        file.seek(3 * PLACE)
        file.write(second)
        ledger.check_file()
        file.seek(3 * PLACE + 100)
        file.write(b"\xff")
        with pytest.raises(AssertionError, match="torn"):
            ledger.check_file()
        os.fsync(file.fileno())
        ledger.check_durable()


# Stores through the mapping.


def test_a_flush_covers_what_was_written_through_the_mapping(tmp_path: Path) -> None:
    path, socket = tmp_path / "disk.img", str(tmp_path / "disk.sock")
    path.write_bytes(os.urandom(SIZE))
    with FileStorage(path) as storage, BlkDevice(storage) as device, serving(device, socket):
        if page_cache(storage.fd) is None:
            pytest.skip("this kernel does not tell what is dirty")
        with Blk.connect(socket) as disk:
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


def test_a_write_through_the_mapping_is_durable_when_it_is_said_to_be(tmp_path: Path) -> None:
    path, socket = tmp_path / "disk.img", str(tmp_path / "disk.sock")
    path.write_bytes(os.urandom(SIZE))
    with FileStorage(path) as storage, BlkDevice(storage) as device, serving(device, socket):
        if page_cache(storage.fd) is None:
            pytest.skip("this kernel does not tell what is dirty")
        with Blk.connect(socket) as disk:
            for turn in range(200):
                disk.write(turn % 64 * 65536, bytes([turn]) * 65536)
            assert page_cache(storage.fd).dirty > 0  # type: ignore[union-attr]
            disk.flush()
            disk.writeback = False
            for turn in range(100):
                disk.write(turn % 64 * 65536, bytes([turn + 1]) * 65536)
                assert page_cache(storage.fd)[1:3] == (0, 0)  # type: ignore[index]
