"""Serve a file, interfere with it, and check every byte that is read."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from virtio.drivers import Blk
from virtio.errors import VirtioError
from virtio.spec.blk import SECTOR_SIZE
from virtio.testing.integrity.run import IntegrityOptions, IntegrityResult, run_integrity
from virtio.testing.integrity.service import bytes_by_calls, served
from virtio.testing.integrity.trouble import Report, trouble

QUEUES = 4
MIB = 1 << 20


def main() -> int:
    """Exit status: 0 if nothing was wrong."""
    arguments = _parser().parse_args()
    rings = ("split", "packed") if arguments.ring == "both" else (arguments.ring,)
    fine = True
    try:
        for ring in rings:
            for query in arguments.disk or ("",):
                fine &= _check(arguments, ring, query)
    except VirtioError as error:
        sys.exit(f"{error}")
    return 0 if fine else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m virtio.testing.integrity", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000, help="for each ring")
    parser.add_argument("--ring", choices=("split", "packed", "both"), default="both")
    parser.add_argument("--depth", type=int, default=48, help=f"in flight on each of {QUEUES} queues")
    parser.add_argument("--span", type=int, default=96, help="tested part of the file, in MiB")
    parser.add_argument("--seed", type=int, default=time.time_ns() % (1 << 32))
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where the file is to be")
    parser.add_argument("--cache", choices=("writeback", "writethrough", "none"), default="writeback")
    parser.add_argument("--disk", action="append", metavar="QUERY", help="of the file's URL, such as map=off")
    parser.add_argument("--calm", action="store_true", help="do not interfere with the file")
    return parser


def _check(arguments: argparse.Namespace, ring: str, query: str) -> bool:
    options = IntegrityOptions(
        requests=arguments.requests,
        depth=arguments.depth,
        span=arguments.span * MIB,
        seed=arguments.seed,
    )
    with tempfile.TemporaryDirectory(prefix="virtio-integrity-", dir=arguments.directory) as folder:
        result, report, by_calls = _run(Path(folder), options, ring, query, arguments)
    print(_describe(ring, query, arguments, result, report, by_calls), flush=True)
    return result.sound


def _run(
    folder: Path, options: IntegrityOptions, ring: str, query: str, arguments: argparse.Namespace
) -> tuple[IntegrityResult, Report, tuple[int, int]]:
    path, socket = folder / "disk.img", folder / "disk.sock"
    assert options.span is not None
    path.touch()
    os.truncate(path, options.span)
    url = f"file:{path}?{query}" if query else str(path)
    flags = ("--num-queues", str(QUEUES), "--cache", arguments.cache)
    with (
        served(url, socket, *flags, say=False) as service,
        Blk.connect(str(socket), num_queues=QUEUES, queue_size=256, packed=ring == "packed") as disk,
    ):
        with ExitStack() as stack:
            report = Report()
            if not arguments.calm:
                report = stack.enter_context(trouble(path, options.span, service=service.pid))
            result = run_integrity(disk, options)
        return result, report, bytes_by_calls(service.pid)


def _describe(
    ring: str,
    query: str,
    arguments: argparse.Namespace,
    result: IntegrityResult,
    report: Report,
    by_calls: tuple[int, int],
) -> str:
    kinds = ", ".join(f"{count} {name}" for name, count in result.kinds.items())
    wrong = ", ".join(f"{count} {name}" for name, count in result.wrong.items()) or "none"
    lines = [
        f"{ring} ring, cache {arguments.cache}{', ' if query else ''}{query}, seed {arguments.seed}: "
        f"{'sound' if result.sound else 'NOT SOUND'}",
        f"  {result.requests} requests in {result.seconds:.1f} s ({kinds})",
        f"  {result.sectors_checked} sectors of 512 bytes read and checked, wrong: {wrong}; "
        f"{result.errors} errors",
        f"  past system calls, through the mapping: {_mapped(result.sectors_checked, by_calls[0])} of the "
        f"bytes read, {_mapped(result.sectors_written, by_calls[1])} of those written",
        f"  meanwhile {report.drops} times the page cache was dropped ({report.pages_evicted} pages), "
        f"the file grown {report.grown} and shrunk {report.shrunk} times",
    ]
    if result.first_wrong is not None:
        lines.append(f"  the first wrong sector is at byte {result.first_wrong}")
    if result.errors:
        lines.append(f"  the last error's status is {result.last_status}")
    return "\n".join(lines)


def _mapped(sectors: int, by_calls: int) -> str:
    share = max(0.0, 1 - by_calls / (sectors * SECTOR_SIZE)) if sectors else 0.0
    return f"{share:.0%}"


if __name__ == "__main__":
    sys.exit(main())
