"""Where the time of one request goes: each step measured by itself, in nanoseconds.

The steps of the device come from a worker and a driver in lockstep on one thread (`lockstep.py`): with rings
alone, with requests parsed and answered, with data moved. Each kind contains the one before it, so that the
difference of two is one step. What a second core adds comes from `virtio blk` itself, driven at depth 1.
primitives.c tells what the machine charges for the smallest steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from backends import BACKEND_CORES, GENERATOR_CORES, command_of, running, socket_path
from lockstep import KINDS, Kind, lockstep
from native import compiled
from output import update_document
from residence import Resident, make_file
from tables import markdown_table, table
from workloads import Side

DEPTHS = (1, 32)
FILE_BYTES, QUICK_BYTES = 1 << 30, 16 << 20
Costs = dict[str, dict[str, float]]


def measure(folder: Path, rounds: int, requests: int, file_bytes: int) -> dict[str, Any]:
    """{"lockstep": {"kind, depth": device and driver ns}, "together": ..., "primitives": {name: ns}}."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f"virtio-anatomy-{os.getpid()}.img"
    found: dict[str, Any] = {"primitives": _primitives(folder, max(100, requests // 2))}
    make_file(path, file_bytes)
    try:
        with Resident(path):
            found["lockstep"] = _lockstep(path, rounds, requests, _clock())
    finally:
        path.unlink()
    found["together"] = {f"depth {depth}": _two_cores(depth, rounds, requests) for depth in DEPTHS}
    return found


def _clock() -> float:
    """What one reading of the clock costs, about: there is one for each end and batch."""
    runs = []
    for _ in range(100):
        begin = time.perf_counter_ns()
        for _ in range(100):
            time.perf_counter_ns()
        runs.append((time.perf_counter_ns() - begin) / 101)
    return min(runs)


def _primitives(folder: Path, times: int) -> dict[str, float]:
    program = compiled("primitives", folder)
    if program is None:
        return {}
    command = [str(program), str(BACKEND_CORES[0]), str(GENERATOR_CORES[0]), str(times)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return {name: float(ns) for name, ns in (line.split("\t") for line in lines)}


def _lockstep(path: Path, rounds: int, requests: int, clock: float) -> Costs:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, BACKEND_CORES[:1])
    try:
        return {
            f"{kind.name}, depth {depth}": _one(kind, path, depth, rounds, requests, clock / depth)
            for kind in KINDS
            for depth in DEPTHS
        }
    finally:
        os.sched_setaffinity(0, before)


def _one(kind: Kind, path: Path, depth: int, rounds: int, requests: int, clock: float) -> dict[str, float]:
    """Device and driver, without the ``clock``'s share of each."""
    print(f"{kind.name}, depth {depth} ...", file=sys.stderr, flush=True)
    with lockstep(kind, file=path, depth=depth, timed=True) as pair:
        pair.do(requests)
        runs: list[dict[str, float]] = []
        for _ in range(rounds):
            served, begin = pair.channel.served_ns, time.perf_counter_ns()
            pair.do(requests)
            device = (pair.channel.served_ns - served) / requests
            driver = (time.perf_counter_ns() - begin) / requests - device
            runs.append({"device": device - clock, "driver": driver - clock})
        # Whatever else the machine does can only add to what two ends on one thread need.
        return min(runs, key=lambda run: run["device"] + run["driver"])


def _two_cores(depth: int, rounds: int, requests: int) -> float:
    """Nanoseconds between two answers of `virtio blk null:`, both ends polling, each on a core of its own."""
    print(f"two cores, depth {depth} ...", file=sys.stderr, flush=True)
    load = {"depth": depth, "polling": True, "seconds": None, "requests": requests}
    with socket_path() as socket, running(command_of(Side(), None, socket, None), socket) as backend:
        return statistics.median(1e9 / backend.load(load=load)["iops"] for _ in range(rounds))


def steps(found: dict[str, Any], ring: str = "split") -> list[tuple[str, float]]:
    """What each step adds to a request of a batch of 32, in order: a name and nanoseconds."""
    costs: Costs = found["lockstep"]

    def device(kind: str) -> float:
        return costs[f"{kind}, depth 32"]["device"]

    rings, null = f"rings, {ring}", f"null, {ring}"
    return [
        (
            "driver: make the request, put it on the ring, reap its answer",
            costs[f"{null}, depth 32"]["driver"],
        ),
        ("device: take the chain, check and translate it, give it back, publish", device(rings)),
        ("device: parse the header, check the range, answer", device(null) - device(rings)),
        (
            "device: copy 4 KiB from the mapping to the guest",
            device(f"mapped read 4k, {ring}") - device(null),
        ),
        ("instead: the same by preadv2", device("pread 4k, split") - device("null, split")),
        (
            "device: copy 4 KiB from the guest to the mapping",
            device("mapped write 4k, split") - device("null, split"),
        ),
        ("instead: the same by pwritev2", device("pwrite 4k, split") - device("null, split")),
        ("more on two cores, one request at a time: what both touch travels", _travel(found, ring)),
    ]


def _travel(found: dict[str, Any], ring: str) -> float:
    alone = found["lockstep"][f"null, {ring}, depth 1"]
    return float(found["together"]["depth 1"]) - alone["device"] - alone["driver"]


def tables(found: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """{name of a document's markers: head and rows}."""
    made: dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]] = {
        "steps": (("step of a request", "ns"), [(name, f"{ns:.0f}") for name, ns in steps(found)]),
        "whole": (
            ("both ends on one thread", "device ns", "driver ns"),
            [
                (name, f"{each['device']:.0f}", f"{each['driver']:.0f}")
                for name, each in found["lockstep"].items()
            ],
        ),
        "two-cores": (
            ("two cores, both ends polling, no data", "ns a request"),
            [(name, f"{ns:.0f}") for name, ns in found["together"].items()],
        ),
    }
    if found["primitives"]:
        rows = [(name, f"{ns:.1f}") for name, ns in found["primitives"].items()]
        made["primitives"] = (("what the machine charges for", "ns"), rows)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few requests on a small file: does it work?")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--requests", type=int, default=200_000, help="in each round (default 200,000)")
    parser.add_argument("--directory", type=Path, default=Path("build/bench"), help="where the file is made")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to FILE")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="put the tables between FILE's markers")
    arguments = parser.parse_args()
    rounds, requests, size = arguments.rounds, arguments.requests, FILE_BYTES
    if arguments.quick:
        rounds, requests, size = 1, 5000, QUICK_BYTES
    found = measure(arguments.directory, rounds, requests, size)
    made = tables(found)
    print("\n\n".join(table(head, rows) for head, rows in made.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.markdown:
        update_document(
            arguments.markdown, {name: markdown_table(head, rows) for name, (head, rows) in made.items()}
        )


if __name__ == "__main__":
    main()
