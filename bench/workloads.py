"""What is measured, as data: for each workload what is served, the load, and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS, PEER = "pyvirtio", "storage-daemon"
FILE, TMPFS, SPARE, NULL = "file", "tmpfs", "spare", "null"
"""Where the disk is: a hot file, one in memory, one that is not held in the page cache, nowhere."""

DIRECT = "direct"  # an option of `Side.storage`: O_DIRECT
UNMAPPED = "unmapped"  # ours without its mapping


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: which program, how it is started, how it is driven.

    ``options`` go to `virtio blk` (ours alone), ``mode`` is DIRECT or UNMAPPED, ``connect`` goes to
    `virtio.drivers.Blk.connect`, ``load`` changes the workload's. ``cores`` is how many each end may use.
    """

    label: str = OURS
    program: str = OURS
    mode: str = ""
    options: Sequence[str] = ()
    connect: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    cores: int = 1


@dataclass(frozen=True)
class Workload:
    """A name to choose by, what `virtio.drivers.LoadOptions` are to be, and the two sides.

    ``limit`` is what of the machine's limits bounds it (limits.py), ``bar`` the ratio it is meant to reach,
    ``warm`` is how many seconds of the same load come first, ``section`` is the table it belongs to.
    """

    name: str
    load: Mapping[str, Any]
    disk: str = FILE
    ours: Side = field(default_factory=Side)
    other: Side = field(default_factory=lambda: Side(PEER, PEER))
    limit: str = ""
    bar: float | None = None
    warm: float = 0.1
    section: str = "disk"

    @property
    def writes(self) -> bool:
        """Whether it leaves dirty pages."""
        return self.load.get("read_percent", 100) < 100

    @property
    def hot(self) -> bool:
        """Whether its file must be in the page cache."""
        return self.disk in (FILE, TMPFS)


HOW = {"polling": True, "sleeping": False}
WRITE = {"read_percent": 0}
BIG = {"block_size": 128 << 10, "random": False, "depth": 8}
READ_BARS = {
    (1, "polling"): 4.0,
    (1, "sleeping"): 3.0,
    (32, "polling"): 3.0,
    (32, "sleeping"): 2.5,
    (128, "polling"): 3.0,
    (128, "sleeping"): 2.5,
}
COPY, PREAD, PWRITE = "copy 4k, looking ahead", "pread 4k", "pwrite 4k"


def _each(depths: Sequence[int]) -> list[tuple[int, str, dict[str, Any]]]:
    return [
        (depth, how, {"depth": depth, "polling": polling}) for depth in depths for how, polling in HOW.items()
    ]


def _hot_file() -> list[Workload]:
    reads = [
        Workload(f"4k randread depth {depth} {how}", load, limit=COPY, bar=READ_BARS[depth, how])
        for depth, how, load in _each((1, 32, 128))
    ]
    sequential = [
        Workload(f"128k seqread depth 8 {how}", {**BIG, "polling": polling}, limit="copy 128k", bar=1.6)
        for how, polling in HOW.items()
    ]
    return reads + sequential


def _hot_file_written() -> list[Workload]:
    writes = [
        Workload(
            f"4k randwrite depth {depth} {how}",
            load | WRITE,
            limit=PWRITE,
            bar=1.5 if depth == 32 else None,
            warm=2.0,  # what is written often is found out first
        )
        for depth, how, load in _each((1, 32, 128))
    ]
    sequential = [
        Workload(
            f"128k seqwrite depth 8 {how}", BIG | WRITE | {"polling": polling}, limit="pwrite 128k", bar=1.6
        )
        for how, polling in HOW.items()
    ]
    return writes + sequential


def _null() -> list[Workload]:
    return [
        Workload(f"rings alone depth {depth} {how}", load, disk=NULL, bar=1.5, section="rings")
        for depth, how, load in _each((32, 128))
    ]


def _tmpfs() -> list[Workload]:
    return (
        [
            Workload(f"4k randread tmpfs depth {depth} {how}", load, disk=TMPFS, limit=COPY + ", tmpfs")
            for depth, how, load in _each((32,))
        ]
        + [
            Workload(
                f"4k randwrite tmpfs depth {depth} {how}",
                load | WRITE,
                disk=TMPFS,
                limit=PWRITE + ", tmpfs",
                bar=2.5,
            )
            for depth, how, load in _each((32,))
        ]
        + [
            Workload(
                f"128k {name} tmpfs depth 8 polling",
                BIG | more | {"polling": True},
                disk=TMPFS,
                limit=limit,
                bar=1.6,
            )
            for name, more, limit in (
                ("seqread", {}, "copy 128k, tmpfs"),
                ("seqwrite", WRITE, "pwrite 128k, tmpfs"),
            )
        ]
    )


def _same_semantics() -> list[Workload]:
    """System calls only on our side too, O_DIRECT on both, and nothing in the page cache."""
    unmapped, direct = Side(mode=UNMAPPED), Side(mode=DIRECT)
    peer = Side(PEER, PEER, mode=DIRECT)
    bars = {1: 3.0, 32: 1.5}
    return (
        [
            Workload(
                f"4k randread map=off depth {depth} polling",
                {"depth": depth, "polling": True},
                ours=unmapped,
                limit=PREAD,
                bar=bar,
                section="equal",
            )
            for depth, bar in bars.items()
        ]
        + [
            Workload(
                f"4k rand{name} O_DIRECT depth 32 polling",
                {"depth": 32, "polling": True} | more,
                disk=SPARE,
                ours=direct,
                other=peer,
                limit=limit,
                bar=1.0,
                section="equal",
            )
            for name, more, limit in (("read", {}, "O_DIRECT read 4k, io_uring"), ("write", WRITE, ""))
        ]
        + [
            Workload(
                "4k randread cold cache depth 32 sleeping",
                {"depth": 32},
                disk=SPARE,
                bar=1.0,
                warm=0.0,  # it would warm the page cache, too
                section="equal",
            )
        ]
    )


def _packed() -> list[Workload]:
    packed = Side("packed", connect={"packed": True})
    split = Side("split")
    load = {"depth": 32, "polling": True}
    return [
        Workload("packed ring, 4k randread depth 32", load, ours=packed, other=split, bar=0.9, section="own"),
        Workload("packed ring, rings alone depth 32", load, NULL, packed, split, bar=0.9, section="own"),
    ]


def _queues(cores: int) -> list[Workload]:
    """Four queues against one, on one core: as many requests in each, and in all; then on more cores."""
    load = {"depth": 32, "polling": True}
    found = []
    for each, depth in ((32, "depth 32 each"), (8, "total depth 32")):
        four = Side(
            "4 queues",
            options=("--num-queues", "4"),
            connect={"num_queues": 4},
            load={"depth": each, "together": True},
        )
        for what, disk in (("4k randread", FILE), ("rings alone", NULL)):
            name = f"4 queues of 1 core, {what} {depth}"
            found.append(Workload(name, load, disk, four, Side("1 queue"), section="own"))
    for queues in (2, 4, 8):
        if 2 * queues <= cores:
            many = Side(
                f"{queues} queues",
                options=("--num-queues", str(queues)),
                connect={"num_queues": queues},
                cores=queues,
            )
            name = f"{queues} queues of {queues} cores, 4k randread depth 32 each"
            found.append(Workload(name, load, ours=many, other=Side("1 queue"), section="own"))
    return found


def workloads(cores: int) -> list[Workload]:
    """All of them, in the order in which they are run: reads first, what leaves dirty pages last."""
    return [
        *_hot_file(),
        *_null(),
        *_packed(),
        *_queues(cores),
        *_same_semantics(),
        *_tmpfs(),
        *_hot_file_written(),
    ]


SECTIONS = {
    "disk": "A hot file",
    "rings": "Rings alone",
    "equal": "Equal semantics: no mapping, O_DIRECT, cold data",
    "own": "pyvirtio against itself",
}
