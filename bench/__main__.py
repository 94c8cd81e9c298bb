"""All the benchmarks, and one summary: `python bench`, or `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import blk
import handler
import service


def circumstances(storage_daemon: str) -> dict[str, str]:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "machine": f"{os.cpu_count()} x {model}, load average {load} at the start",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pyvirtio": version("pyvirtio"),
        "storage daemon": _version_of(storage_daemon),
    }


def _version_of(program: str) -> str:
    try:
        result = subprocess.run(
            [*program.split(), "--version"], stdout=subprocess.PIPE, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not installed"
    return result.stdout.splitlines()[0]


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    blk.options(parser)
    arguments = parser.parse_args()
    around = circumstances(arguments.storage_daemon)
    rounds, seconds = (1, 0.2) if arguments.quick else (arguments.rounds, arguments.seconds)
    print("virtio blk as a service ...", file=sys.stderr, flush=True)
    results: dict[str, Any] = {"circumstances": around}
    results["service"] = service.measure(
        starts=3 if arguments.quick else 10, idle_seconds=1 if arguments.quick else 3
    )
    print("handlers in Python ...", file=sys.stderr, flush=True)
    results["handler"] = handler.measure(rounds, seconds)
    results["blk"] = blk.measure(arguments)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    print("\n".join(f"{name}: {text}" for name, text in around.items()))
    print(f"\n{blk.report(results['blk'])}\n\n{handler.report(results['handler'])}")
    print(f"\n{service.report(results['service'])}")


if __name__ == "__main__":
    main()
