"""One load on one vhost-user disk, in a process of its own: JSON in, JSON out.

    python bench/generator.py SOCKET '{"cpus": [1], "pid": 4711, "load": {"depth": 32, "seconds": 2}}'

``load`` is `virtio.drivers.LoadOptions`; ``connect`` goes to `virtio.drivers.Blk.connect`; ``pid`` is the
back-end, whose processor time is read before and after; ``warm`` is how long to run before that.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

from processes import cpu_seconds
from virtio.drivers import Blk, LoadOptions, run_load

CONNECT = {"queue_size": 256, "packed": False}


def run(socket: str, settings: dict[str, Any]) -> dict[str, float]:
    """Connect, warm up, measure. Latencies in microseconds, processor time in nanoseconds a request."""
    if "cpus" in settings:
        os.sched_setaffinity(0, settings["cpus"])
    options = LoadOptions(**settings["load"])
    with Blk.connect(socket, **CONNECT | settings.get("connect", {})) as disk:
        run_load(disk, dataclasses.replace(options, seconds=settings.get("warm", 0.1)))
        before = cpu_seconds(settings["pid"])
        result = run_load(disk, options)
        used = cpu_seconds(settings["pid"]) - before
    if result.errors:
        raise SystemExit(f"{result.errors} of {result.requests} requests failed")
    return {
        "iops": result.iops,
        "p50_us": result.percentile(50) / 1000,
        "p99_us": result.percentile(99) / 1000,
        "cpu_ns": used * 1e9 / result.requests,
        "generator_cpu_ns": result.cpu_seconds * 1e9 / result.requests,
        "kicks": result.kicks / result.requests,
        "sleeps": result.sleeps / result.requests,
    }


if __name__ == "__main__":
    json.dump(run(sys.argv[1], json.loads(sys.argv[2])), sys.stdout)
