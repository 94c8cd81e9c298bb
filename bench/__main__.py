"""All the benchmarks, and one summary: `python bench`, or `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import blk
import callgrind
import handler
import instructions
import net
import peers
import service
import testpmd
from backends import BACKEND_CORES, GENERATOR_CORES
from options import PARTS, Plan, add_options, plan_of
from output import write_all


def circumstances(plan: Plan) -> dict[str, str]:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    peer = None if plan.ours_only else peers.chosen(plan.storage_daemon)
    return {
        "machine": f"{os.cpu_count()} x {model}, load average {load} at the start",
        "cores": f"back-end on {BACKEND_CORES[0]}, generator on {GENERATOR_CORES[0]}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pyvirtio": version("pyvirtio"),
        "storage daemon": (peers.version_line(peer) or peer) if peer else "none",
        "testpmd": testpmd.version(plan.testpmd) or "none",
        "runs": f"medians of {plan.rounds}, {plan.seconds:g} s each",
    }


def measure(plan: Plan, parts: list[str], *, quick: bool) -> dict[str, Any]:
    """The parts that are wanted."""
    results: dict[str, Any] = {"circumstances": circumstances(plan)}
    if "service" in parts:
        print("virtio blk as a service ...", file=sys.stderr, flush=True)
        results["service"] = service.measure(starts=3 if quick else 10, idle_seconds=1 if quick else 3)
    if "handler" in parts:
        print("handlers in Python ...", file=sys.stderr, flush=True)
        results["handler"] = handler.measure(min(plan.rounds, 3), plan.seconds)
    if "instructions" in parts and callgrind.installed():
        results["instructions"] = instructions.measure()
    if "blk" in parts:
        results["blk"] = blk.measure(plan)
    if "net" in parts and testpmd.command_line(plan.testpmd):
        results["net"] = net.measure(plan)
    return results


def main() -> None:
    """Measure everything, or read what was measured before; print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of these (default {','.join(PARTS)})")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", type=Path, help="results of an earlier --json"
    )
    arguments = parser.parse_args()
    if arguments.source:
        results = json.loads(arguments.source.read_text())
    else:
        parts = arguments.parts.split(",")
        if unknown := set(parts) - set(PARTS):
            parser.error(f"no such part: {', '.join(sorted(unknown))}")
        results = measure(plan_of(arguments), parts, quick=arguments.quick)
    write_all(results, arguments)


if __name__ == "__main__":
    main()
