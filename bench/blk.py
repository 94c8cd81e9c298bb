"""A disk served by pyvirtio and by qemu-storage-daemon, in turn, under the same load.

Each run starts one back-end on core 0 and one generator on core 1, on the same hot file. The back-ends take
turns within each round; what is printed is the median of the rounds, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import BACKEND_CPU, NULL, running, socket_path, storage_daemon, virtio_blk
from tables import medians, table, thousands

OURS, PEER = "pyvirtio", "storage-daemon"
FILE_BYTES, QUICK_BYTES = 1 << 30, 64 << 20


@dataclass(frozen=True)
class Workload:
    """A name to print and to choose by, and what `virtio.drivers.LoadOptions` are to be."""

    name: str
    load: dict[str, Any]
    null: bool = False

    @property
    def writes(self) -> bool:
        """Whether it leaves dirty pages."""
        return self.load.get("read_percent", 100) < 100


WORKLOADS = [
    *(
        Workload(f"4k randread depth {depth} {how}", {"depth": depth, "polling": how == "polling"})
        for depth in (1, 32, 128)
        for how in ("sleeping", "polling")
    ),
    Workload("128k seqread depth 8", {"depth": 8, "block_size": 128 << 10, "random": False}),
    Workload("rings alone depth 32 polling", {"depth": 32, "polling": True}, null=True),
    Workload("rings alone depth 32 sleeping", {"depth": 32}, null=True),
    Workload("4k randwrite depth 32", {"depth": 32, "read_percent": 0}),
]


def options(parser: argparse.ArgumentParser) -> None:
    """Say what may be chosen."""
    parser.add_argument("--quick", action="store_true", help="one short round on a small file: does it work?")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each time (default 1)")
    parser.add_argument("--directory", type=Path, default=Path("build/bench"), help="where the file is made")
    parser.add_argument("--storage-daemon", metavar="COMMAND", default="qemu-storage-daemon")
    parser.add_argument("--only", metavar="TEXT", default="", help="workloads whose name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def commands(program: str) -> dict[str, Callable[[str, str], list[str]]]:
    """The back-ends there are, by name: what makes a command line of storage and socket."""
    found: dict[str, Callable[[str, str], list[str]]] = {OURS: virtio_blk}
    if shutil.which(program.split()[0]):
        found[PEER] = lambda storage, socket: storage_daemon(program, storage, socket)
    else:
        print(f"{program} is not installed: nothing to compare with", file=sys.stderr)
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All chosen workloads: {workload: {back-end: figures}}."""
    rounds, seconds = (1, 0.2) if arguments.quick else (arguments.rounds, arguments.seconds)
    disk = hot_file(arguments.directory, QUICK_BYTES if arguments.quick else FILE_BYTES)
    backends = commands(arguments.storage_daemon)
    results: dict[str, Any] = {}
    try:
        for workload in WORKLOADS:
            if arguments.only not in workload.name:
                continue
            print(f"{workload.name} ...", file=sys.stderr, flush=True)
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in backends}
            for _ in range(rounds):
                for name, command in backends.items():
                    runs[name].append(one_run(command, workload, disk, seconds))
            results[workload.name] = {name: medians(each) for name, each in runs.items()}
        if limit := machine_limit(disk, seconds):
            results["4k randread by fio, no rings"] = {"fio psync": limit}
    finally:
        disk.unlink()
    return results


def one_run(
    command: Callable[[str, str], list[str]], workload: Workload, disk: Path, seconds: float
) -> dict[str, float]:
    """Start a back-end, load it, stop it."""
    storage = NULL if workload.null else str(disk)
    with socket_path() as socket, running(command(storage, socket), socket) as backend:
        figures = backend.load(load={**workload.load, "seconds": seconds})
    if workload.writes:
        settle(disk)
    return figures


def hot_file(folder: Path, size: int) -> Path:
    """A file with all its blocks allocated, on the medium, and in the page cache."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f"disk-{os.getpid()}.img"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    settle(path)
    return path


def settle(path: Path) -> None:
    """Write back what is dirty, so that it is not done while the next is measured."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def machine_limit(disk: Path, seconds: float) -> dict[str, float] | None:
    """What one core reads of the same file with pread and nothing else, where fio is at hand."""
    if not shutil.which("fio"):
        return None
    command = [
        "fio", "--name=limit", "--ioengine=psync", "--rw=randread", "--bs=4k", f"--filename={disk}",
        "--time_based", f"--runtime={max(1, round(seconds))}", "--gtod_reduce=1", "--norandommap",
        "--randrepeat=1", "--invalidate=0", f"--cpus_allowed={BACKEND_CPU}", "--output-format=json",
    ]  # fmt: skip
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return {"iops": json.loads(result)["jobs"][0]["read"]["iops"]}


def report(results: dict[str, Any]) -> str:
    """The table."""
    rows = []
    for workload, by_backend in results.items():
        peer = by_backend.get(PEER)
        for name, figures in by_backend.items():
            ratio = f"{figures['iops'] / peer['iops']:.2f}" if peer and name == OURS else ""
            rows.append((workload, name, thousands(figures["iops"]), ratio, *_details(figures)))
            workload = ""
    head = ("workload", "back-end", "I/O/s", "ratio", "p50 us", "p99 us", "CPU ns/IO")
    return table(head, rows)


def _details(figures: dict[str, float]) -> tuple[str, str, str]:
    if "p50_us" not in figures:
        return "", "", ""
    return f"{figures['p50_us']:.1f}", f"{figures['p99_us']:.1f}", f"{figures['cpu_ns']:.0f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options(parser)
    arguments = parser.parse_args()
    results = measure(arguments)
    print(json.dumps(results, indent=2) if arguments.json else report(results))


if __name__ == "__main__":
    main()
