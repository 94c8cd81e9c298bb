"""pyvirtio's network driver under load, in a process of its own: JSON in, JSON out.

    python bench/frames.py SOCKET '{"cpus": [1], "load": {"send": true, "size": 64, "seconds": 1}}'

``load`` is `virtio.drivers.NetLoadOptions`; ``connect`` goes to `virtio.drivers.Net.connect`; ``warm`` is how
long to run before. ``pids`` are other processes that, with this one, come first while it is measured.
``idle`` is how long to do nothing instead, of which the processor's share is told.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from contextlib import nullcontext
from typing import Any

from processes import cpu_seconds, real_time
from virtio.drivers import Net, NetLoadOptions, run_net_load

CONNECT = {"queue_size": 1024, "packed": False}


def run(socket: str, settings: dict[str, Any]) -> dict[str, float]:
    """Connect, warm up, measure: frames each second, either way."""
    if "cpus" in settings:
        os.sched_setaffinity(0, settings["cpus"])
    options = NetLoadOptions(**{"polling": True, **settings["load"]})
    pids = settings.get("pids", [])
    with Net.connect(socket, **CONNECT | settings.get("connect", {})) as nic:
        run_net_load(nic, dataclasses.replace(options, seconds=settings.get("warm", 0.1)))
        if "idle" in settings:
            return idle(settings["idle"], pids)
        with real_time(os.getpid(), *pids) if pids else nullcontext():
            result = run_net_load(nic, options)
    return {"received": result.received_per_second, "sent": result.sent_per_second}


def idle(seconds: float, pids: list[int]) -> dict[str, float]:
    """Percent of a core, of this process and of the others."""
    time.sleep(0.2)  # until the device has stopped polling
    processes = {"driver": [os.getpid()], "device": pids}
    before = {name: sum(map(cpu_seconds, each)) for name, each in processes.items()}
    time.sleep(seconds)
    return {
        name: 100 * (sum(map(cpu_seconds, each)) - before[name]) / seconds for name, each in processes.items()
    }


if __name__ == "__main__":
    json.dump(run(sys.argv[1], json.loads(sys.argv[2])), sys.stdout)
