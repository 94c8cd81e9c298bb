from __future__ import annotations

import itertools
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from virtio.devices.blk import Blk
from virtio.spec import blk as spec
from virtio.spec import features as feature_bits
from virtio.storage import MemoryStorage, Storage

pytestmark = pytest.mark.usefixtures("aio")  # each test with threads and with io_uring

MIB = 1 << 20
OK, IOERR, UNSUPP = spec.S_OK, spec.S_IOERR, spec.S_UNSUPP
BACKENDS = ("file", "direct", "mem", "python")


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def span(sector: int, sectors: int, flags: int = 0) -> bytes:
    return struct.pack("<QII", sector, sectors, flags)


class Plain(Storage):
    """A disk in plain Python that can do everything."""

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self.data = bytearray(data)
        self.flushed = 0
        self.kept: list[memoryview] = []

    def read(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.data[offset : offset + len(buffer)]

    def write(self, offset: int, data: memoryview) -> None:
        self.kept.append(data)  # rude, yet must not hurt
        self.data[offset : offset + len(data)] = data

    def flush(self) -> None:
        self.flushed += 1

    def discard(self, offset: int, length: int) -> None:
        self.data[offset : offset + length] = bytes(length)


CONTENTS = random.Random(5).randbytes(MIB)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[..., Blk]]:
    made: list[Blk] = []

    def make(kind: str = "mem", **options: Any) -> Blk:
        made.append(build(kind, **options))
        return made[-1]

    def build(kind: str, **options: Any) -> Blk:
        if kind in ("file", "direct"):
            path = tmp_path / "disk.img"
            path.write_bytes(CONTENTS)
            return Blk(path, cache="none" if kind == "direct" else "writeback", **options)
        if kind == "python":
            return Blk(Plain(CONTENTS), **options)
        memory = MemoryStorage(MIB)
        memory.write(0, memoryview(CONTENTS))
        return Blk(memory, **options)

    yield make
    for disk in made:
        disk.close()


def contents(disk: Blk) -> bytes:
    data = bytearray(disk.storage.size)
    disk.storage.read(0, memoryview(data))
    return bytes(data)


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("packed", [False, True])
def test_read_write_flush(make_disk, guest, kind: str, packed: bool) -> None:
    disk = make_disk(kind)
    g = guest(disk, packed=packed)
    answer = g.ask([header(spec.T_IN, 3)], [4096, 1])
    assert (answer.status, answer.used) == (OK, 4097)
    assert answer.data == CONTENTS[1536:5632]
    new = os.urandom(4096)
    answer = g.ask([header(spec.T_OUT, 7), new], [1])
    assert (answer.status, answer.used) == (OK, 1)
    answer = g.ask([header(spec.T_FLUSH)], [1])
    assert (answer.status, answer.used) == (OK, 1)
    assert g.ask([header(spec.T_FLUSH_OUT)], [1]).status == OK
    assert contents(disk) == CONTENTS[:3584] + new + CONTENTS[7680:]


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("at", [0, 1, 8])
@pytest.mark.parametrize(
    "cuts",
    [
        [],  # header and data in one buffer
        [16],  # as Linux does it
        [1, 15, 17],
        [8, 16, 16 + 512],
        [16, 17, 400, 1000],
        [5, 16 + 511, 16 + 1024],
    ],
)
def test_any_framing_of_a_write(make_disk, guest, kind: str, at: int, cuts: list[int]) -> None:
    disk = make_disk(kind)
    g = guest(disk)
    data = os.urandom(1536)
    whole = header(spec.T_OUT, 100) + data
    edges = [0, *cuts, len(whole)]
    parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
    answer = g.ask(parts, [1], at=at)
    assert (answer.status, answer.used) == (OK, 1)
    assert contents(disk) == CONTENTS[:51200] + data + CONTENTS[51200 + 1536 :]


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("at", [0, 1, 8])
@pytest.mark.parametrize(
    "parts", [[1537], [1536, 1], [512, 1024, 1], [1, 1535, 1], [1000, 537], [511, 1, 1025]]
)
def test_any_framing_of_a_read(make_disk, guest, kind: str, at: int, parts: list[int]) -> None:
    g = guest(make_disk(kind))
    answer = g.ask([header(spec.T_IN, 9)[:7], header(spec.T_IN, 9)[7:]], parts, at=at)
    assert (answer.status, answer.used) == (OK, 1537)
    assert answer.data == CONTENTS[4608 : 4608 + 1536]


@pytest.mark.parametrize("legacy", [False, True])
def test_legacy_drivers_are_served_alike(make_disk, guest, legacy: bool) -> None:
    g = guest(make_disk(), legacy=legacy)
    assert g.ask([header(spec.T_IN, 0)], [512, 1]).data == CONTENTS[:512]


@pytest.mark.parametrize("serial", ["", "disk-1", "x" * 20])
def test_identity(make_disk, guest, serial: str) -> None:
    g = guest(make_disk(serial=serial))
    answer = g.ask([header(spec.T_GET_ID)], [20, 1])
    assert (answer.status, answer.used) == (OK, 21)
    assert answer.data == serial.encode().ljust(20, b"\0")
    assert g.ask([header(spec.T_GET_ID)], [7, 1]).data == serial.encode().ljust(20, b"\0")[:7]
    long = g.ask([header(spec.T_GET_ID)], [30, 34, 1])
    assert long.data == serial.encode().ljust(64, b"\0")
    assert long.used == 65


@pytest.mark.parametrize("kind", BACKENDS)
def test_discard_and_write_zeroes(make_disk, guest, kind: str) -> None:
    disk = make_disk(kind)
    g = guest(disk)
    both = span(8, 16) + span(1000, 24)
    answer = g.ask([header(spec.T_DISCARD), both], [1])
    assert (answer.status, answer.used) == (OK, 1)
    zeroed = bytearray(CONTENTS)
    zeroed[4096:12288] = bytes(8192)
    zeroed[512000 : 512000 + 12288] = bytes(12288)
    assert contents(disk) == zeroed
    # Header and segments cut in the wrong places, and one with UNMAP.
    whole = header(spec.T_WRITE_ZEROES) + span(1, 3, 1) + span(64, 1) + span(2047, 1)
    assert g.ask([whole[:20], whole[20:41], whole[41:]], [1]).status == OK
    zeroed[512:2048] = bytes(1536)
    zeroed[64 * 512 : 65 * 512] = bytes(512)
    zeroed[-512:] = bytes(512)
    assert contents(disk) == zeroed
    assert g.ask([header(spec.T_WRITE_ZEROES), span(5, 0)], [1]).status == OK
    assert contents(disk) == zeroed


def test_discarding_shrinks_the_file(make_disk, guest, tmp_path: Path) -> None:
    disk = make_disk("file")
    g = guest(disk)
    assert g.ask([header(spec.T_FLUSH)], [1]).status == OK
    before = (tmp_path / "disk.img").stat().st_blocks
    assert g.ask([header(spec.T_DISCARD), span(0, 1024)], [1]).status == OK
    assert (tmp_path / "disk.img").stat().st_blocks <= before - 1024


LAST = MIB // 512
REFUSED = {
    "read past the end": ([header(spec.T_IN, LAST)], [512, 1], IOERR),
    "read across the end": ([header(spec.T_IN, LAST - 1)], [1024, 1], IOERR),
    "read at a sector that overflows": ([header(spec.T_IN, 1 << 55)], [512, 1], IOERR),
    "read at the largest sector": ([header(spec.T_IN, (1 << 64) - 1)], [512, 1], IOERR),
    "read of part of a sector": ([header(spec.T_IN, 0)], [100, 1], IOERR),
    "write past the end": ([header(spec.T_OUT, LAST), bytes(512)], [1], IOERR),
    "write across the end": ([header(spec.T_OUT, LAST - 1), bytes(1024)], [1], IOERR),
    "write of part of a sector": ([header(spec.T_OUT, 0), bytes(513)], [1], IOERR),
    "short header": ([header(spec.T_OUT, 0)[:15]], [1], IOERR),
    "one byte of header": ([b"\x01"], [1], IOERR),
    "no header": ([], [513], IOERR),
    "unknown type": ([header(99)], [1], UNSUPP),
    "SCSI command": ([header(spec.T_SCSI_CMD)], [1], UNSUPP),
    "lifetime": ([header(spec.T_GET_LIFETIME)], [6, 1], UNSUPP),
    "secure erase": ([header(spec.T_SECURE_ERASE), span(0, 1)], [1], UNSUPP),
    "zone report": ([header(spec.T_ZONE_REPORT)], [512, 1], UNSUPP),
    "write with the legacy barrier": ([header(spec.T_OUT | spec.T_BARRIER), bytes(512)], [1], UNSUPP),
    "discard of nothing": ([header(spec.T_DISCARD)], [1], IOERR),
    "discard with half a segment": ([header(spec.T_DISCARD), span(0, 1) + bytes(8)], [1], IOERR),
    "discard with UNMAP": ([header(spec.T_DISCARD), span(0, 1, 1)], [1], UNSUPP),
    "discard with an unknown flag": ([header(spec.T_DISCARD), span(0, 1, 2)], [1], UNSUPP),
    "zeroes with an unknown flag": ([header(spec.T_WRITE_ZEROES), span(0, 1, 3)], [1], UNSUPP),
    "unknown flag in the last segment": (
        [header(spec.T_WRITE_ZEROES), span(0, 1) + span(1, 1, 1 << 31)],
        [1],
        UNSUPP,
    ),
    "discard past the end": ([header(spec.T_DISCARD), span(LAST - 1, 2)], [1], IOERR),
    "zeroes at a sector that overflows": (
        [header(spec.T_WRITE_ZEROES), span((1 << 64) - 1, 2)],
        [1],
        IOERR,
    ),
    "zeroes of too many sectors": ([header(spec.T_WRITE_ZEROES), span(0, (1 << 32) - 1)], [1], IOERR),
    "discard of too many segments": ([header(spec.T_DISCARD), span(0, 1) * 65], [1], IOERR),
}


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_is_wrong_is_refused_and_does_nothing(make_disk, guest, kind: str) -> None:
    disk = make_disk(kind)
    g = guest(disk)
    for name, (readable, writable, status) in REFUSED.items():
        answer = g.ask(readable, writable)
        assert answer.status == status, name
        assert answer.used == sum(writable), name
        assert answer.data == bytes(sum(writable) - 1), name
    assert contents(disk) == CONTENTS
    assert g.ask([header(spec.T_IN, 0)], [512, 1]).status == OK


def test_without_a_status_byte_nothing_is_done(make_disk, guest) -> None:
    disk = make_disk()
    g = guest(disk)
    answer = g.ask([header(spec.T_OUT, 0), bytes(512)], [])
    assert answer.used == 0
    assert contents(disk) == CONTENTS


def test_a_read_with_room_for_the_status_alone(make_disk, guest) -> None:
    answer = guest(make_disk()).ask([header(spec.T_IN, 0)], [1])
    assert (answer.status, answer.used) == (OK, 1)


def test_read_only(make_disk, guest, tmp_path: Path) -> None:
    disk = make_disk("file", read_only=True)
    assert disk.offered_features & feature_bits.mask(spec.F_RO)
    assert not disk.offered_features & feature_bits.mask(spec.F_DISCARD, spec.F_WRITE_ZEROES)
    g = guest(disk)
    assert g.ask([header(spec.T_OUT, 0), bytes(512)], [1]).status == IOERR
    assert g.ask([header(spec.T_DISCARD), span(0, 8)], [1]).status == UNSUPP
    assert g.ask([header(spec.T_WRITE_ZEROES), span(0, 8)], [1]).status == UNSUPP
    assert g.ask([header(spec.T_FLUSH)], [1]).status == OK
    assert g.ask([header(spec.T_IN, 0)], [512, 1]).data == CONTENTS[:512]
    assert contents(disk) == CONTENTS


def test_what_was_not_negotiated_is_unsupported(make_disk, guest) -> None:
    disk = make_disk()
    g = guest(disk, features=feature_bits.mask(feature_bits.VERSION_1))
    assert g.ask([header(spec.T_DISCARD), span(0, 8)], [1]).status == UNSUPP
    assert g.ask([header(spec.T_WRITE_ZEROES), span(0, 8)], [1]).status == UNSUPP
    assert contents(disk) == CONTENTS


@pytest.mark.parametrize("kind", BACKENDS)
def test_consecutive_requests_in_one_batch(make_disk, guest, kind: str) -> None:
    """They are merged where that can be; every request still gets its own bytes."""
    disk = make_disk(kind)
    g = guest(disk, size=256)
    oracle = bytearray(CONTENTS)
    tokens = []
    for i in range(40):
        data = os.urandom(1024)
        oracle[i * 1024 : (i + 1) * 1024] = data
        tokens.append(g.submit([header(spec.T_OUT, i * 2), data[:100], data[100:]], [1]))
    g.kick()
    assert [a.status for a in g.wait(*tokens)] == [OK] * 40
    order = [*range(30), 50, 51, 53, *range(60, 70)]
    tokens = [g.submit([header(spec.T_IN, i)], [200, 312, 1]) for i in order]
    bad = g.submit([header(spec.T_IN, LAST)], [512, 1])
    g.kick()
    for sector, answer in zip(order, g.wait(*tokens), strict=True):
        assert answer.status == OK
        assert answer.data == oracle[sector * 512 : sector * 512 + 512]
    assert g.wait(bad)[0].status == IOERR
    assert contents(disk) == oracle


def test_null_touches_nothing(guest) -> None:
    with Blk("null:1T") as disk:
        g = guest(disk)
        answer = g.ask([header(spec.T_IN, (1 << 31) - 8)], [4096, 1])
        assert (answer.status, answer.data, answer.used) == (OK, b"\xee" * 4096, 4097)
        for readable in ([header(spec.T_OUT), bytes(512)], [header(spec.T_FLUSH)]):
            assert g.ask(readable, [1]).status == OK
        assert g.ask([header(spec.T_DISCARD), span(0, 1 << 22)], [1]).status == OK
        g.close()
