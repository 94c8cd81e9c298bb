"""The block device at work: durability, failures of the host, cold data, several queues, live changes."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import random
import resource
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio.devices.blk import Blk
from virtio.errors import StorageSizeError, UsageError
from virtio.spec import blk as spec
from virtio.spec import features as feature_bits
from virtio.storage import Storage

pytestmark = pytest.mark.usefixtures("aio")  # each test with threads and with io_uring

MIB = 1 << 20
OK, IOERR = spec.S_OK, spec.S_IOERR
VERSION_1 = feature_bits.VERSION_1
libc = ctypes.CDLL(None, use_errno=True)


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def mask(*bits: int) -> int:
    return feature_bits.mask(*bits)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(6).randbytes(4 * MIB))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


def dirty_pages(path: Path) -> int:
    """Pages of the file that are in memory and not yet on the medium (cachestat)."""
    span = struct.pack("QQ", 0, 0)
    found = ctypes.create_string_buffer(40)
    with path.open("rb") as file:
        if libc.syscall(451, file.fileno(), span, found, 0) != 0:
            pytest.skip("no cachestat")
    return int(struct.unpack("5Q", found.raw)[1])


# Durability.

WRITE_BACK = [(VERSION_1, spec.F_FLUSH), (VERSION_1, spec.F_FLUSH, spec.F_CONFIG_WCE)]
WRITE_THROUGH = [(VERSION_1,), (), (VERSION_1, spec.F_CONFIG_WCE)]


@pytest.mark.parametrize("bits", WRITE_BACK + WRITE_THROUGH)
def test_a_driver_that_cannot_flush_gets_write_through(guest, image: Path, bits: tuple[int, ...]) -> None:
    with Blk(image) as disk:
        g = guest(disk, features=mask(*bits))
        expected = bits in WRITE_BACK
        assert g.attachment.read_config(32, 1)[0] == int(expected)
        assert g.ask([header(spec.T_OUT, 16), os.urandom(65536)], [1]).status == OK
        assert bool(dirty_pages(image)) == expected
        if spec.F_FLUSH in bits:
            assert g.ask([header(spec.T_FLUSH)], [1]).status == OK
        assert dirty_pages(image) == 0
        g.close()


def test_the_driver_switches_its_cache(guest, image: Path) -> None:
    with Blk(image) as disk:
        g = guest(disk)
        for writeback in (0, 1, 0):
            g.attachment.write_config(32, bytes([writeback]))
            assert g.attachment.read_config(32, 1)[0] == writeback
            assert g.ask([header(spec.T_OUT, 16), os.urandom(4096)], [1]).status == OK
            assert bool(dirty_pages(image)) == writeback
            g.ask([header(spec.T_FLUSH)], [1])
        g.attachment.reset()
        assert g.attachment.read_config(32, 1)[0] == 1
        g.close()


def test_writethrough_by_option(guest, image: Path) -> None:
    with Blk(image, cache="writethrough") as disk:
        g = guest(disk, features=mask(VERSION_1, spec.F_FLUSH))
        assert g.attachment.read_config(32, 1)[0] == 0
        assert g.ask([header(spec.T_OUT, 16), os.urandom(4096)], [1]).status == OK
        assert dirty_pages(image) == 0
        g.close()


class Slow(Storage):
    """Counts, and lets the test hold flushes back."""

    def __init__(self) -> None:
        super().__init__(MIB)
        self.log: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def read(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = bytes(len(buffer))

    def write(self, offset: int, data: memoryview) -> None:
        self.log.append("write")

    def flush(self) -> None:
        self.gate.wait(10)
        self.log.append("flush")


def test_durable_means_before_the_answer(guest) -> None:
    storage = Slow()
    with Blk(storage, cache="writethrough") as disk:
        g = guest(disk)
        storage.gate.clear()
        token = g.submit([header(spec.T_OUT), bytes(512)], [1])
        g.kick()
        # Others are not held up meanwhile, and overtake it.
        assert g.ask([header(spec.T_IN)], [512, 1]).status == OK
        assert token not in g._done
        assert "flush" not in storage.log
        storage.gate.set()
        assert g.wait(token)[0].status == OK
        assert storage.log == ["write", "flush"]
        g.close()


# Failures of the host.


@pytest.fixture
def tiny_file_system() -> Iterator[Path]:
    """A tmpfs of 1 MiB that is mounted nowhere: it goes with its descriptor."""
    context = libc.syscall(430, b"tmpfs", 1)
    if context < 0:
        pytest.skip("needs the right to mount")
    libc.syscall(431, context, 1, b"size", b"1m", 0)
    libc.syscall(431, context, 6, None, None, 0)
    mount = libc.syscall(432, context, 1, 0)
    os.close(context)
    assert mount >= 0
    yield Path(f"/proc/self/fd/{mount}")
    os.close(mount)


def test_a_full_file_system_reaches_the_guest_and_the_service_lives(
    guest, tiny_file_system: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_file_system / "disk.img"
    path.touch()
    os.truncate(path, 8 * MIB)
    with Blk(path) as disk, caplog.at_level(logging.ERROR, "virtio.blk"):
        g = guest(disk)
        statuses = [g.ask([header(spec.T_OUT, i * 128), os.urandom(65536)], [1]).status for i in range(64)]
        assert statuses[:8] == [OK] * 8
        assert statuses[-8:] == [IOERR] * 8
        assert g.ask([header(spec.T_IN, 0)], [512, 1]).status == OK
        zero = struct.pack("<QII", 0, 1024, 1)
        assert g.ask([header(spec.T_WRITE_ZEROES), zero], [1]).status == OK
        assert g.ask([header(spec.T_OUT, 9000), os.urandom(65536)], [1]).status == OK
        g.close()
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1, lines
    assert "No space left on device" in lines[0]
    assert str(path) in lines[0]


def test_a_file_size_limit(guest, image: Path) -> None:
    os.truncate(image, 8 * MIB)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Blk(image) as disk:
        g = guest(disk)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB, before[1]))
        try:
            assert g.ask([header(spec.T_OUT, 6 * 2048), bytes(512)], [1]).status == IOERR
            # A write that is only half possible is an error as a whole.
            assert g.ask([header(spec.T_OUT, 5 * 2048 - 1), bytes(1024)], [1]).status == IOERR
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert g.ask([header(spec.T_OUT, 6 * 2048), bytes(512)], [1]).status == OK
        g.close()


def test_a_bad_neighbour_in_a_merged_run_does_not_spoil_the_others(guest, image: Path) -> None:
    with Blk(image) as disk:
        g = guest(disk)
        os.truncate(image, 2 * MIB + 512)
        tokens = [g.submit([header(spec.T_IN, 4096 - 4 + i)], [512, 1]) for i in range(8)]
        g.kick()
        assert [a.status for a in g.wait(*tokens)] == [OK] * 5 + [IOERR] * 3
        g.close()


def test_a_broken_storage_of_ones_own(guest, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Slow):
        def read(self, offset: int, buffer: memoryview) -> None:
            raise OSError(errno.EREMOTEIO, "no")

    with Blk(Broken()) as disk:
        g = guest(disk)
        answer = g.ask([header(spec.T_IN)], [512, 1])
        assert (answer.status, answer.data) == (IOERR, bytes(512))
        assert g.ask([header(spec.T_OUT), bytes(512)], [1]).status == OK
        g.close()
    assert "read of 512 bytes at 0 failed: Remote I/O error" in caplog.text


# Cold data, and much of it.


@pytest.mark.parametrize("cache", ["writeback", "none"])
def test_cold_reads_come_back_later(guest, image: Path, cache: str, aio: str) -> None:
    data = image.read_bytes()
    with Blk(image, cache=cache) as disk:
        g = guest(disk, size=256)
        rng = random.Random(7)
        for _ in range(60):
            os.posix_fadvise(disk.storage.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            sectors = [rng.randrange(8192 - 64) for _ in range(40)]
            tokens = [g.submit([header(spec.T_IN, s)], [4096, 8192, 1]) for s in sectors]
            g.kick()
            for sector, answer in zip(sectors, g.wait(*tokens), strict=True):
                assert answer.status == OK
                assert answer.data == data[sector * 512 : sector * 512 + 12288]
        if aio == "threads":
            assert 0 < disk._executor.threads <= disk._executor.limit
        else:
            assert disk._executor.threads == 0
        g.close()


def test_hot_reads_need_no_threads(guest, image: Path) -> None:
    image.read_bytes()
    with Blk(image) as disk:
        g = guest(disk)
        for sector in range(0, 8192, 64):
            assert g.ask([header(spec.T_IN, sector)], [32768, 1]).status == OK
        assert disk._executor.threads == 0
        g.close()


def test_a_request_of_more_segments_than_a_system_call_takes(guest, image: Path) -> None:
    data = image.read_bytes()
    with Blk(image, queue_size=4096) as disk:
        g = guest(disk, size=4096)
        answer = g.ask([header(spec.T_IN, 0)], [512] * 1500 + [1])
        assert (answer.status, answer.data) == (OK, data[: 1500 * 512])
        new = [os.urandom(512) for _ in range(1500)]
        assert g.ask([header(spec.T_OUT, 100), *new], [1]).status == OK
        assert image.read_bytes()[51200 : 51200 + 1500 * 512] == b"".join(new)
        g.close()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["writeback", "writethrough", "none", "mem"])
def test_random_requests_on_several_queues_against_an_oracle(
    guest, image: Path, kind: str, packed: bool
) -> None:
    """Requests in flight together never touch the same sectors, so the order does not matter."""
    rng = random.Random(8)
    url = "mem:4M" if kind == "mem" else image
    oracle = bytearray(4 * MIB) if kind == "mem" else bytearray(image.read_bytes())
    with Blk(url, num_queues=3, cache="writeback" if kind == "mem" else kind) as disk:
        g = guest(disk, size=128, packed=packed, poll_us=20)
        for _ in range(12):
            if kind == "writeback":
                os.posix_fadvise(disk.storage.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            expected = {}
            for slot in rng.sample(range(64), 40):
                start = slot * 128 + rng.randrange(100)
                sectors = rng.randrange(1, 28)
                area = slice(start * 512, (start + sectors) * 512)
                queue, at = rng.randrange(3), rng.choice([0, 0, 1, 512])
                what = rng.randrange(10)
                if what < 5:
                    token = g.submit([header(spec.T_IN, start)], [sectors * 512, 1], queue=queue, at=at)
                    expected[token] = bytes(oracle[area])
                    continue
                if what < 9:
                    data = rng.randbytes(sectors * 512)
                    token = g.submit([header(spec.T_OUT, start), data], [1], queue=queue, at=at)
                else:
                    data = bytes(sectors * 512)
                    zero = struct.pack("<QII", start, sectors, rng.randrange(2))
                    token = g.submit([header(spec.T_WRITE_ZEROES), zero], [1], queue=queue)
                oracle[area] = data
                expected[token] = b""
            flush = g.submit([header(spec.T_FLUSH)], [1])
            for queue in range(3):
                g.kick(queue)
            for wanted, answer in zip(expected.values(), g.wait(*expected), strict=True):
                assert answer.status == OK
                assert answer.data == wanted
            assert g.wait(flush)[0].status == OK
        found = bytearray(4 * MIB)
        disk.storage.read(0, memoryview(found))
        assert found == oracle
        g.close()


# Live changes.


def test_resize_while_live(guest, image: Path) -> None:
    with Blk(image) as disk:
        g = guest(disk)
        assert g.ask([header(spec.T_IN, 8192)], [512, 1]).status == IOERR
        disk.resize(8 * MIB)
        assert g.config_changes == 1
        assert struct.unpack("<Q", g.attachment.read_config(0, 8)) == (16384,)
        assert g.ask([header(spec.T_OUT, 16383), b"x" * 512], [1]).status == OK
        disk.resize(MIB)
        assert disk.capacity == image.stat().st_size == MIB
        assert g.config_changes == 2
        assert g.ask([header(spec.T_IN, 2048)], [512, 1]).status == IOERR
        assert g.ask([header(spec.T_IN, 2047)], [512, 1]).status == OK
        os.truncate(image, 2 * MIB)
        assert disk.refresh() == 2 * MIB
        assert g.config_changes == 3
        assert g.ask([header(spec.T_IN, 4095)], [512, 1]).status == OK
        with pytest.raises(StorageSizeError):
            disk.resize(777)
        g.close()


def test_reset_and_attach_again(guest, image: Path) -> None:
    with Blk(image) as disk:
        for _ in range(3):
            g = guest(disk)
            assert g.ask([header(spec.T_IN, 0)], [512, 1]).status == OK
            g.close()


def test_stopping_waits_for_what_is_in_flight(guest) -> None:
    storage = Slow()
    with Blk(storage) as disk:
        g = guest(disk)
        storage.gate.clear()
        g.submit([header(spec.T_FLUSH)], [1])
        g.kick()
        threading.Timer(0.2, storage.gate.set).start()
        deadline = time.monotonic() + 5
        while not disk._executor.threads and time.monotonic() < deadline:
            time.sleep(0.01)
        state = g.attachment.vrings[0].stop()
        assert state.used_index == 1
        assert storage.log == ["flush"]
        g.close()


def test_a_storage_that_hangs_is_given_up_but_not_closed(
    guest, image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("virtio.devices.blk.device.DRAIN_SECONDS", 0.1)
    monkeypatch.setattr("virtio.devices.blk.device.CLOSE_SECONDS", 0.1)
    storage = Slow()
    closed: list[bool] = []
    monkeypatch.setattr(storage, "close", lambda: closed.append(True))
    monkeypatch.setattr("virtio.devices.blk.device.open_storage", lambda *args, **options: storage)
    disk = Blk("slow:")
    g = guest(disk)
    storage.gate.clear()
    token = g.submit([header(spec.T_FLUSH)], [1])
    g.kick()
    while not disk._executor.threads:
        time.sleep(0.01)
    g.close()
    disk.close()
    assert not closed
    assert "hangs" in caplog.text
    storage.gate.set()
    deadline = time.monotonic() + 10
    while disk._executor.threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert storage.log == ["flush"]
    status = g._writable[token][0]
    assert g.memory.read(*status) == b"\xee"  # nothing was written after the guest was let go
    disk.close()
    assert closed == [True]


# What the driver reads, and what cannot be.


@pytest.mark.parametrize(("queue_size", "segments"), [(64, 62), (128, 126), (256, 126), (1024, 126)])
def test_segments_fit_queues_of_usual_size(image: Path, queue_size: int, segments: int) -> None:
    """Linux in a QEMU with its default of 128 would overfill its queues otherwise."""
    with Blk(image, queue_size=queue_size) as disk:
        assert disk.config.seg_max == segments


def test_configuration(image: Path) -> None:
    with Blk(image, num_queues=4, queue_size=128, logical_block_size=4096) as disk:
        config = disk.config
        assert (config.capacity, config.blk_size, config.num_queues) == (8192, 4096, 4)
        assert (config.seg_max, config.writeback) == (126, 1)
        assert config.max_discard_sectors * config.max_discard_seg > 0
        assert config.write_zeroes_may_unmap == 1
        names = (
            "SEG_MAX", "SIZE_MAX", "BLK_SIZE", "TOPOLOGY", "FLUSH",
            "CONFIG_WCE", "MQ", "DISCARD", "WRITE_ZEROES",
        )  # fmt: skip
        assert disk.features == mask(*(getattr(spec, f"F_{name}") for name in names))
        assert len(config) == 60
        assert sum(queue.count for queue in disk.queues) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"num_queues": 0},
        {"queue_size": 2},
        {"logical_block_size": 1000},
        {"cache": "unsafe"},
        {"serial": "x" * 21},
        {"serial": "é"},
    ],
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Blk("mem:1M", **options)  # type: ignore[arg-type]
