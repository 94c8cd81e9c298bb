"""What the machine allows, measured in the same run: one core, one file, no ring.

limits.c does it, compiled on the way with the C compiler at hand; io_uring is fio's part. What is not
installed is not measured.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backends import BACKEND_CORES
from native import compiled
from processes import pinned
from residence import settle

URING_BATCH = 32


@dataclass(frozen=True)
class Limit:
    """A name, which of the bench's files it uses ("file", "tmpfs", "spare"), and how it is measured."""

    name: str
    disk: str
    mode: str
    block: int = 4096
    order: str = "random"

    @property
    def writes(self) -> bool:
        """Whether it leaves dirty pages."""
        return self.mode == "pwrite"


BIG = 128 << 10


def _of(disk: str, suffix: str) -> list[Limit]:
    return [
        Limit(f"pread 4k{suffix}", disk, "pread"),
        Limit(f"copy 4k{suffix}", disk, "copy"),
        Limit(f"copy 4k, looking ahead{suffix}", disk, "ahead"),
        Limit(f"pread 128k{suffix}", disk, "pread", BIG, "sequential"),
        Limit(f"copy 128k{suffix}", disk, "copy", BIG, "sequential"),
        Limit(f"pwrite 4k{suffix}", disk, "pwrite"),
        Limit(f"pwrite 128k{suffix}", disk, "pwrite", BIG, "sequential"),
    ]


LIMITS = [
    *_of("file", ""),
    *_of("tmpfs", ", tmpfs"),
    Limit("io_uring 4k, batches of 32", "file", "uring"),
    Limit("O_DIRECT read 4k, io_uring", "spare", "uring-direct"),
]


def measure(
    folder: Path, path_of: Callable[[str], Path], wanted: set[str] | None, rounds: int, seconds: float
) -> dict[str, float]:
    """{limit: operations a second}, the medians. ``wanted`` are names; None: all."""
    program, found = compiled("limits", folder), {}
    for limit in LIMITS:
        if wanted is not None and limit.name not in wanted:
            continue
        command = _command(limit, program, path_of, seconds)
        if command is None:
            continue
        print(f"limit: {limit.name} ...", file=sys.stderr, flush=True)
        path = path_of(limit.disk)
        found[limit.name] = statistics.median(_once(limit, command, path) for _ in range(rounds))
    return found


def _command(
    limit: Limit, program: Path | None, path_of: Callable[[str], Path], seconds: float
) -> list[str] | None:
    if not limit.mode.startswith("uring"):
        if program is None:
            return None
        return [
            str(program),
            limit.mode,
            str(limit.block),
            limit.order,
            str(path_of(limit.disk)),
            str(seconds),
        ]
    return _fio(limit, path_of(limit.disk), seconds) if shutil.which("fio") else None


def _fio(limit: Limit, path: Path, seconds: float) -> list[str]:
    return [
        "fio",
        "--name=limit",
        "--ioengine=io_uring",
        "--rw=randread",
        f"--bs={limit.block}",
        f"--filename={path}",
        f"--iodepth={URING_BATCH}",
        f"--iodepth_batch_submit={URING_BATCH}",
        f"--iodepth_batch_complete_max={URING_BATCH}",
        f"--direct={int(limit.mode == 'uring-direct')}",
        "--time_based",
        f"--runtime={round(seconds * 1000)}ms",
        "--gtod_reduce=1",
        "--norandommap",
        "--randrepeat=1",
        "--invalidate=0",
        "--output-format=json",
    ]


def _once(limit: Limit, command: list[str], path: Path) -> float:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, preexec_fn=lambda: pinned(BACKEND_CORES[:1])
    )
    if limit.writes:
        settle(path)
    if limit.mode.startswith("uring"):
        return float(json.loads(done.stdout)["jobs"][0]["read"]["iops"])
    return float(done.stdout)
