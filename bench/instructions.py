"""Instructions per request, which do not wobble: callgrind's count of compiled code on one thread.

Each kind of request is done N times and 3 N times (`lockstep.py`); a 2 N-th part of the difference is what
one request executes, whatever begins and ends a run left out. "Device" is what the queue's worker does for
it, from the moment at which it is made available to that at which its answer is published; "driver" is
the load generator with its end of the ring. The kernel's instructions are not counted: a `preadv2` is a call.

Rings and headers come out the same each time; a mapping within a few percent, since what proves that it is
resident expires with time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import callgrind
from lockstep import KINDS
from tables import table

HERE = Path(__file__).parent
KEPT = HERE / "instructions.json"
REQUESTS = 32 * 256  # whole batches, whole laps of the ring
BEGIN = "__pyx_pw_*BlkLoad_*allow"  # what begins a run of requests
TOP = 10


def measure(only: str = "") -> dict[str, dict[str, Any]]:
    """{kind: {"device": n, "driver": n, "functions": {name: n}}}, all of them per request."""
    names = [kind.name for kind in KINDS if only in kind.name]
    if not names:
        return {}
    print(f"instructions of {len(names)} kinds of requests ...", file=sys.stderr, flush=True)
    # Each kind gives four parts: up to the warming up, that, then N requests, then 3 N.
    parts = callgrind.count([str(HERE / "lockstep.py"), str(REQUESTS), *names], dump_before=BEGIN)
    return {
        name: summary(parts[4 * i + 3].minus(parts[4 * i + 2]), 2 * REQUESTS) for i, name in enumerate(names)
    }


def summary(counts: callgrind.Counts, requests: int) -> dict[str, Any]:
    """What is kept of a count, with one digit behind the point."""
    device = counts.within("publish_and_kick", "QueueWorker.serve")
    functions = {name: round(n / requests, 1) for name, n in counts.own.most_common(TOP)}
    return {
        "device": round(device / requests, 1),
        "driver": round((counts.total - device) / requests, 1),
        "functions": functions,
    }


def report(results: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The table, with what has changed since the figures that are kept."""
    rows = [
        (name, f"{each['device']:.0f}", f"{each['driver']:.0f}", _change(each, kept.get(name)))
        for name, each in results.items()
    ]
    return table(("instructions per request", "device", "driver", "device, since kept"), rows)


def _change(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    if before is None:
        return "new"
    return f"{100 * (now['device'] / before['device'] - 1):+.1f} %"


def functions(results: Mapping[str, Mapping[str, Any]]) -> str:
    """For each kind of request, the functions that execute most."""
    parts = []
    for name, each in results.items():
        rows = [(function, f"{count:.1f}") for function, count in each["functions"].items()]
        parts.append(table((name, "own"), rows))
    return "\n\n".join(parts)


def grown(
    results: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Mapping[str, Any]], tolerance: float
) -> list[str]:
    """The kinds whose device executes more than ``tolerance`` percent more than what is kept, or are new."""
    return [
        name
        for name, each in results.items()
        if name not in kept or each["device"] > kept[name]["device"] * (1 + tolerance / 100)
    ]


def load_kept() -> dict[str, dict[str, Any]]:
    """The figures that are kept."""
    found: dict[str, dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return found


def main() -> int:
    """Count, print, and compare with what is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="kinds of requests that contain this")
    parser.add_argument("--check", action="store_true", help="fail if a device executes more than is kept")
    parser.add_argument("--tolerance", type=float, default=4.0, help="percent more that --check lets pass")
    parser.add_argument("--keep", action="store_true", help=f"write the figures to {KEPT.name}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE")
    arguments = parser.parse_args()
    if not callgrind.installed():
        print("valgrind is not installed\n  fix: sudo apt-get install valgrind", file=sys.stderr)
        return 4
    kept = load_kept()
    results = measure(arguments.only)
    print(report(results, kept), functions(results), sep="\n\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    if arguments.keep:
        KEPT.write_text(json.dumps({**kept, **results}, indent=2) + "\n")
    if arguments.check and (names := grown(results, kept, arguments.tolerance)):
        print(f"more than is kept: {', '.join(names)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
