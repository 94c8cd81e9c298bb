"""Serve a file, interfere with it, and check every byte; or kill the service, or cut its power."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from virtio.errors import VirtioError
from virtio.testing.integrity.case import MIB, QUEUES, Case, run_case
from virtio.testing.integrity.crashes import CRASHES, run_crashes
from virtio.testing.integrity.generator import LARGEST
from virtio.testing.integrity.modes import all_modes
from virtio.testing.integrity.report import in_full, in_one_line
from virtio.testing.integrity.run import IntegrityOptions


def main() -> int:
    """Exit status: 0 if nothing was wrong, 1 if something was, else that of the error (`virtio explain`)."""
    arguments = _parser().parse_args()
    if arguments.kill or arguments.cut_power:
        return max(_crash(arguments, kind) for kind in CRASHES)
    return max(_check(case, arguments.all_modes) for case in _cases(arguments))


def _check(case: Case, briefly: bool) -> int:
    try:
        outcome = run_case(case)
    except VirtioError as error:
        print(f"{case.ring}, {case.name}: {error}", file=sys.stderr)
        return error.exit_status
    print((in_one_line if briefly else in_full)(case, outcome), flush=True)
    return 0 if outcome.result.sound else 1


def _crash(arguments: argparse.Namespace, kind: str) -> int:
    status = 0
    try:
        for result in run_crashes(kind, getattr(arguments, kind), arguments.directory, arguments.seed):
            print(result, flush=True)
            status |= not result.sound
    except VirtioError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m virtio.testing.integrity", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000, help="for each ring")
    parser.add_argument("--ring", choices=("split", "packed", "both"), default="both")
    parser.add_argument("--depth", type=int, default=48, help=f"in flight on each of {QUEUES} queues")
    parser.add_argument("--span", type=int, default=96, help="tested part of the file, in MiB")
    parser.add_argument("--largest", type=int, default=LARGEST, help="bytes of a request at most")
    parser.add_argument("--seed", type=int, default=time.time_ns() % (1 << 32))
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where the file is to be")
    parser.add_argument(
        "--all-modes", action="store_true", help="share the requests among all ways of serving"
    )
    parser.add_argument("--cache", choices=("writeback", "writethrough", "none"), default="writeback")
    parser.add_argument("--disk", action="append", metavar="QUERY", help="of the file's URL, such as map=off")
    parser.add_argument(
        "--memory-limit", type=int, metavar="MIB",
        help="serve from a control group with so little memory (with --all-modes: where memory is little)",
    )  # fmt: skip
    parser.add_argument("--calm", action="store_true", help="do not interfere with the file")
    parser.add_argument(
        "--kill",
        type=int,
        default=0,
        metavar="N",
        help="instead, kill the service under load N times in each way",
    )
    parser.add_argument(
        "--cut-power", type=int, default=0, metavar="N",
        help="instead, look N times in each way at what its file system would be after a power cut",
    )  # fmt: skip
    return parser


def _cases(arguments: argparse.Namespace) -> Iterator[Case]:
    pattern = Case(
        name=f"cache {arguments.cache}",
        options=IntegrityOptions(
            requests=arguments.requests,
            depth=arguments.depth,
            span=arguments.span * MIB,
            largest=arguments.largest,
            seed=arguments.seed,
        ),
        directory=arguments.directory,
        cache=arguments.cache,
        calm=arguments.calm,
    )
    limit = None if arguments.memory_limit is None else arguments.memory_limit * MIB
    for ring in ("split", "packed") if arguments.ring == "both" else (arguments.ring,):
        if arguments.all_modes:
            yield from all_modes(replace(pattern, ring=ring), limit)
        else:
            for query in arguments.disk or ("",):
                yield replace(pattern, ring=ring, query=query, memory_limit=limit)


if __name__ == "__main__":
    sys.exit(main())
