"""Which of the two ways to wait a disk takes, and what happens to requests in the kernel at the end."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest

from virtio.devices.blk import Blk
from virtio.devices.blk.aio import io_uring_problem
from virtio.errors import IoUringError, UsageError
from virtio.spec import blk as spec
from virtio.spec import features as feature_bits

MIB = 1 << 20
needs_io_uring = pytest.mark.skipif(bool(io_uring_problem()), reason=io_uring_problem())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(9).randbytes(4 * MIB))
    return path


def ask(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def test_a_way_that_is_none() -> None:
    with pytest.raises(UsageError, match="posix"):
        Blk("mem:1M", aio="posix")


@needs_io_uring
def test_a_storage_that_it_is_of_no_use_to() -> None:
    with pytest.raises(UsageError, match="neither a file nor a block device"):
        Blk("mem:1M", aio="io_uring")


def test_a_build_without_it(guest, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "virtio.devices.blk.uring", None)
    assert "liburing" in io_uring_problem()
    with pytest.raises(IoUringError, match="liburing"):
        Blk(image, aio="io_uring")
    with Blk(image) as disk:
        g = guest(disk)
        assert g.ask([ask(spec.T_FLUSH)], [1]).status == spec.S_OK
        assert disk._executor.threads == 1
        g.close()


@needs_io_uring
@pytest.mark.parametrize("cache", ["writeback", "none"])
def test_what_waits_needs_no_thread(guest, image: Path, cache: str) -> None:
    with Blk(image, cache=cache) as disk:
        g = guest(disk)
        new = random.Random(1).randbytes(8192)
        zero = struct.pack("<QII", 16, 8, 0)
        assert g.ask([ask(spec.T_OUT, 16), new], [1]).status == spec.S_OK
        assert g.ask([ask(spec.T_FLUSH)], [1]).status == spec.S_OK
        assert g.ask([ask(spec.T_IN, 16)], [8192, 1]).data == new
        assert g.ask([ask(spec.T_WRITE_ZEROES), zero], [1]).status == spec.S_OK
        assert g.ask([ask(spec.T_IN, 16)], [8192, 1]).data == bytes(4096) + new[4096:]
        assert disk._executor.threads == 0
        g.close()


@needs_io_uring
@pytest.mark.parametrize("cache", ["writethrough", "none"])
def test_durable_writes_need_one_in_the_page_cache_only(guest, image: Path, cache: str) -> None:
    """The kernel would do those to one file one after the other."""
    with Blk(image, cache=cache) as disk:
        g = guest(disk, features=1 << feature_bits.VERSION_1)  # a driver that cannot flush
        assert g.ask([ask(spec.T_OUT, 16), b"d" * 8192], [1]).status == spec.S_OK
        assert g.ask([ask(spec.T_IN, 16)], [8192, 1]).data == b"d" * 8192
        assert disk._executor.threads == (cache == "writethrough")
        g.close()


@needs_io_uring
def test_unaligned_memory_is_left_to_threads(guest, image: Path) -> None:
    data = image.read_bytes()
    with Blk(image, cache="none") as disk:
        g = guest(disk)
        assert g.ask([ask(spec.T_IN, 3)], [1024, 1], at=1).data == data[1536:2560]
        assert disk._executor.threads == 1
        g.close()


@needs_io_uring
@pytest.mark.parametrize("ending", ["reset", "close", "stop"])
def test_nothing_is_left_in_the_ring_at_the_end(guest, image: Path, ending: str) -> None:
    with Blk(image, cache="none") as disk:
        for _ in range(20):
            g = guest(disk, size=256)
            for sector in range(0, 8000, 160):
                g.submit([ask(spec.T_IN, sector)], [65536, 1])
            g.kick()
            if ending == "stop":
                g.attachment.vrings[0].stop()
            elif ending == "reset":
                g.attachment.reset()
            g.close()
            assert all(other.in_flight == 0 for other in disk._executor.others)
