"""What `virtio blk` costs as a service: time until it listens, memory, and processor time while idle."""

from __future__ import annotations

import argparse
import json
import statistics
import time

from backends import running, socket_path, virtio_blk
from output import as_text
from processes import cpu_seconds, memory
from virtio.drivers import Blk, LoadOptions, run_load

STORAGE = "mem:64M"
BUSY_BYTES = 1 << 20  # of the disk are used: memory that is a disk counts as resident


def measure(*, starts: int, idle_seconds: float) -> dict[str, float]:
    """Milliseconds, MiB, and percent of a core."""
    times = [_start_once() for _ in range(starts)]
    with (
        socket_path() as socket,
        running(virtio_blk(STORAGE, socket), socket) as backend,
        Blk.connect(socket) as disk,
    ):
        run_load(disk, LoadOptions(seconds=0.1, span=BUSY_BYTES))
        time.sleep(0.2)  # until it has stopped polling
        before = cpu_seconds(backend.pid)
        time.sleep(idle_seconds)
        idle = cpu_seconds(backend.pid) - before
        return {
            "listening_ms": statistics.median(times) * 1000,
            "listening_worst_ms": max(times) * 1000,
            "anonymous_mib": memory(backend.pid, "RssAnon") / (1 << 20),
            "resident_mib": memory(backend.pid, "VmRSS") / (1 << 20),
            "idle_percent": 100 * idle / idle_seconds,
        }


def _start_once() -> float:
    """Seconds from the start of the process to its listening; seen within 2 ms."""
    with socket_path() as socket:
        began = time.perf_counter()
        with running(virtio_blk(STORAGE, socket), socket):
            return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts, less waiting")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    results = measure(starts=3 if arguments.quick else 10, idle_seconds=1 if arguments.quick else 3)
    print(json.dumps(results, indent=2) if arguments.json else as_text({"service": results}))


if __name__ == "__main__":
    main()
