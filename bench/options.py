"""What may be chosen, on the command line and in code."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES, QUICK_BYTES = 1 << 30, 64 << 20
PARTS = ("blk", "handler", "service", "instructions", "net")


@dataclass(frozen=True)
class Plan:
    """How often and how long, where, and which."""

    folder: Path
    rounds: int = 5
    seconds: float = 1.0
    file_bytes: int = FILE_BYTES
    only: str = ""
    ours_only: bool = False
    storage_daemon: str | None = None
    testpmd: str | None = None
    real_time: bool = False

    def takes(self, name: str) -> bool:
        """Whether a workload of that name is wanted."""
        return not self.only or any(text in name for text in self.only.split(","))

    @property
    def limit_rounds(self) -> int:
        """The machine's limits wobble less than a pair of processes."""
        return min(self.rounds, 3)

    @property
    def limit_seconds(self) -> float:
        """As above."""
        return min(self.seconds, 0.5)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what may be chosen for the disk's benchmark, the NIC's, and for all together."""
    parser.add_argument("--quick", action="store_true", help="one short round on a small file: does it work?")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each time (default 1)")
    parser.add_argument(
        "--directory", type=Path, default=Path("build/bench"), help="where the files are made (build/bench)"
    )
    parser.add_argument("--file-mib", type=int, help="size of each file (default 1024)")
    parser.add_argument(
        "--storage-daemon", metavar="COMMAND", help="the peer (default: the newest installed)"
    )
    parser.add_argument(
        "--testpmd", metavar="COMMAND", help="the NIC's peer (default: $VIRTIO_TESTPMD, or dpdk-testpmd)"
    )
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="NICs run before all else on their cores while they are measured",
    )
    parser.add_argument("--ours-only", action="store_true", help="no peer")
    parser.add_argument("--only", metavar="TEXT[,TEXT]", default="", help="workloads whose name contains one")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to FILE")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw rates and ratios (FILE.svg, .png)")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="put the tables between FILE's markers; made if missing"
    )


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the arguments describe."""
    quick = arguments.quick
    size = QUICK_BYTES if quick else FILE_BYTES
    return Plan(
        folder=arguments.directory,
        rounds=1 if quick else arguments.rounds,
        seconds=min(arguments.seconds, 0.1) if quick else arguments.seconds,
        file_bytes=arguments.file_mib << 20 if arguments.file_mib else size,
        only=arguments.only,
        ours_only=arguments.ours_only,
        storage_daemon=arguments.storage_daemon,
        testpmd=arguments.testpmd,
        real_time=arguments.real_time,
    )
