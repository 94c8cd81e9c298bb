"""Kills a service under load and looks what is left, in its file and on the medium.

After a kill the file must hold every byte that was acknowledged. After a power cut its file system must
hold every byte that was promised to be durable: acknowledged before an acknowledged flush, or by a disk that
writes through. Where the kernel tells (Linux 6.5), its page cache is asked as well: after a promise no page
of the file may be waiting to be written.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from virtio.drivers import Blk
from virtio.errors import UsageError
from virtio.testing.integrity.ledger import SIZE, Ledger
from virtio.testing.integrity.medium import Medium, medium
from virtio.testing.integrity.service import served
from virtio.testing.integrity.writer import Writer
from virtio.testing.page_cache import is_in_memory

__all__ = ["CRASHES", "WAYS", "CrashResult", "Way", "run_crashes"]

CRASHES = ("kill", "cut_power")


@dataclass(frozen=True, slots=True)
class Way:
    """How the file is served: options of its URL, and of `virtio blk`."""

    query: str
    cache: str
    aio: str = "auto"


WAYS = (
    Way("map=on", "writeback"),
    Way("map=off", "writeback"),
    Way("map=on", "writethrough"),
    Way("map=off", "writethrough"),
    Way("direct=on", "none"),
    Way("map=on", "writeback", "threads"),
)


@dataclass(slots=True)
class CrashResult:
    """What came of the crashes of one kind and way.

    ``checks`` counts looks at the page cache after a promise; ``mapped_bytes`` were written through the
    mapping at least; ``faults`` says what was wrong.
    """

    kind: str
    way: Way
    crashes: int
    ledger: Ledger
    checks: int = 0
    mapped_bytes: int = 0
    mapped: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing acknowledged, or nothing promised, was lost."""
        return not self.faults

    def __str__(self) -> str:
        what = "killed" if self.kind == "kill" else "killed and its power cut"
        lines = [
            f"{self.way.query}, cache {self.way.cache}, aio {self.way.aio}: "
            f"{'sound' if self.sound else 'NOT SOUND'}, "
            f"{what} {self.crashes} times, {self.ledger.writes} writes and {self.ledger.flushes} flushes "
            f"acknowledged, {self.mapped_bytes >> 10} KiB through the mapping; {self.checks} times seen that "
            f"no page was waiting; {self.ledger.lost} sectors lost that were not promised, "
            f"{self.ledger.torn} torn"
        ]
        return "\n  ".join([*lines, *self.faults[:5]])


def run_crashes(kind: str, count: int, directory: Path, seed: int) -> Iterator[CrashResult]:
    """``kind`` is of CRASHES; so many of it in each of `WAYS`. HostError where power cannot be cut."""
    if kind not in CRASHES or count < 0:
        raise UsageError(f"{count} times {kind}")
    for way in WAYS if count else ():
        yield run_way(kind, way, count, directory, seed)


def run_way(kind: str, way: Way, count: int, directory: Path, seed: int = 1) -> CrashResult:
    """One way alone."""
    ledger = Ledger(way.cache != "writethrough", random.Random(f"{seed} {way}"))
    result = CrashResult(kind, way, count, ledger)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="virtio-crash-", dir=directory)))
        disk = stack.enter_context(medium(folder)) if kind == "cut_power" else None
        path = (disk.folder if disk else folder) / "disk.img"
        fd = _make(path)
        stack.callback(os.close, fd)
        if is_in_memory(fd):
            raise UsageError(
                f"{directory} is in memory, where nothing is durable", fix="use another --directory"
            )
        for number in range(count):
            _crash(result, path, folder / "disk.sock", fd, at_once=number % 2 == 1)
            result.faults += ledger.faults(os.pread(fd, SIZE, 0), ledger.acknowledged)
            if disk is not None:
                result.faults += ledger.faults(_after_power_cut(disk), ledger.durable)
    return result


def _make(path: Path) -> int:
    """Half of it is written, which a mapping may then be used for, and half is a hole."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.truncate(fd, SIZE)
    os.pwrite(fd, bytes(SIZE // 2), 0)
    os.fsync(fd)
    parent = os.open(path.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)
    return fd


def _crash(result: CrashResult, path: Path, socket: Path, fd: int, *, at_once: bool) -> None:
    ledger = result.ledger
    flags = ("--cache", result.way.cache, "--aio", result.way.aio, "--num-queues", "2")
    with (
        served(f"file:{path}?{result.way.query}", socket, *flags, say=False) as process,
        Blk.connect(str(socket), num_queues=2, packed=ledger.rng.choice((False, True))) as disk,
    ):
        assert disk.writeback == ledger.writeback
        result.mapped |= str(path) in Path(f"/proc/{process.pid}/maps").read_text()
        writer = Writer(disk, ledger, process, fd)
        writer.write_until_killed(at_once=at_once)
    result.checks += writer.checks
    result.mapped_bytes += writer.bytes_mapped
    result.faults += writer.unflushed


def _after_power_cut(disk: Medium) -> bytes:
    with disk.after_power_cut() as folder:
        return (folder / "disk.img").read_bytes()
