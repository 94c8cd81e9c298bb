"""``virtio io SOCKET`` on a disk: read, write, discard, zero, flush, bench."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import click

from virtio.cli.command import json_option
from virtio.cli.io.info import rows
from virtio.cli.io.target import Target, command, parse_bytes
from virtio.cli.output import emit, hexdump, say, table

if TYPE_CHECKING:
    from virtio.drivers import Blk

CHUNK = 1 << 20  # bytes read or written at a time


@command.command(examples=[("virtio io S read --offset 1M --length 4k", "4 KiB from 1 MiB, in hexadecimal")])
@click.option(
    "--offset", type=parse_bytes, metavar="SIZE", default="0", show_default=True, help="Where to begin."
)
@click.option(
    "--length", type=parse_bytes, metavar="SIZE", help="How much; to the end of the disk if not given."
)
@click.option("--hex/--raw", "as_hex", default=None, help="Hexadecimal (the default on a terminal) or bytes.")
@click.pass_obj
def read(target: Target, offset: int, length: int | None, as_hex: bool | None) -> None:
    """Read to standard output, from any offset."""
    with target.disk() as disk, disk.open() as file:
        _check(disk, offset, length or 0)
        file.seek(offset)
        left = disk.capacity - offset if length is None else length
        as_hex = sys.stdout.isatty() if as_hex is None else as_hex
        while left and (data := file.read(min(left, CHUNK))):
            click.echo(hexdump(data, offset) if as_hex else data, nl=as_hex)
            offset, left = offset + len(data), left - len(data)


@command.command(examples=[("virtio io S write --offset 4k < data", "write a file's bytes at 4 KiB")])
@click.option(
    "--offset", type=parse_bytes, metavar="SIZE", default="0", show_default=True, help="Where to begin."
)
@click.option("--flush/--no-flush", default=True, show_default=True, help="Make it durable.")
@click.pass_obj
def write(target: Target, offset: int, flush: bool) -> None:
    """Write standard input, to any offset. What does not fit on the disk is an error."""
    with target.disk() as disk:
        written = _copy_in(disk, offset, sys.stdin.buffer)
        if flush:
            disk.flush()
    say(f"{written} bytes written at {offset}{' and flushed' if flush else ''}")


def _copy_in(disk: Blk, offset: int, source: IO[bytes]) -> int:
    from virtio.drivers import BlkFile

    file, written = BlkFile(disk), 0
    while data := source.read(CHUNK):
        _check(disk, offset + written, len(data))
        file.seek(offset + written)
        written += file.write(data)
    return written


def _check(disk: Blk, offset: int, length: int) -> None:
    from virtio.errors import UsageError

    if offset + length > disk.capacity:
        raise UsageError(f"bytes {offset} to {offset + length} are not on a disk of {disk.capacity} bytes")


@command.command()
@click.pass_obj
def flush(target: Target) -> None:
    """Make everything written durable."""
    with target.disk() as disk:
        disk.flush()


def _range(function: Callable[..., None]) -> Callable[..., None]:
    length = click.option(
        "--length", type=parse_bytes, metavar="SIZE", required=True, help="How much, in whole blocks."
    )
    return click.option("--offset", type=parse_bytes, metavar="SIZE", required=True, help="Where to begin.")(
        length(function)
    )


@command.command(examples=[("virtio io S discard --offset 0 --length 1G", "let the first GiB go")])
@_range
@click.pass_obj
def discard(target: Target, offset: int, length: int) -> None:
    """Tell the disk that a range's content no longer matters."""
    with target.disk() as disk:
        disk.discard(offset, length)


@command.command(examples=[("virtio io S zero --offset 0 --length 1M", "make the first MiB read as zeros")])
@_range
@click.option("--unmap/--no-unmap", default=True, show_default=True, help="The storage may be freed.")
@click.pass_obj
def zero(target: Target, offset: int, length: int, unmap: bool) -> None:
    """Make a range read as zeros."""
    with target.disk() as disk:
        disk.write_zeroes(offset, length, unmap=unmap)


@command.command(
    examples=[
        ("virtio io S bench", "random 4 KiB reads, 32 at a time, for 5 seconds"),
        (
            "virtio io S bench --read-percent 50 --verify",
            "DESTROYS DATA: writes too, and checks what it reads",
        ),
        ("virtio io S bench --sequential --block-size 128k --depth 8", "one after the other"),
    ]
)
@click.option(
    "--block-size", type=parse_bytes, metavar="SIZE", default="4k", show_default=True, help="Bytes a request."
)
@click.option("--depth", default=32, show_default=True, help="Requests in flight on each queue.")
@click.option("--sequential/--random", default=False, show_default=True, help="The order of the requests.")
@click.option(
    "--read-percent",
    type=click.IntRange(0, 100),
    default=100,
    show_default=True,
    help="How many are reads; the others are writes and destroy data.",
)
@click.option("--seconds", default=5.0, show_default=True, help="How long.")
@click.option("--requests", type=int, help="How many, if that is reached earlier.")
@click.option("--span", type=parse_bytes, metavar="SIZE", help="Only the first so many bytes of the disk.")
@click.option("--poll/--sleep", default=False, show_default=True, help="How to wait for completions.")
@click.option("--verify", is_flag=True, help="Check the data read that this run wrote.")
@click.option("--seed", default=1, show_default=True, help="For the random order.")
@json_option
@click.pass_obj
def bench(
    target: Target,
    block_size: int,
    depth: int,
    sequential: bool,
    read_percent: int,
    seconds: float,
    requests: int | None,
    span: int | None,
    poll: bool,
    verify: bool,
    seed: int,
    as_json: bool,
) -> int:
    """Put load on the disk and measure it. Only reads, unless --read-percent says otherwise."""
    from virtio.drivers import LoadOptions, run_load

    options = LoadOptions(
        block_size=block_size,
        depth=depth,
        random=not sequential,
        read_percent=read_percent,
        seconds=seconds,
        requests=requests,
        span=span,
        polling=poll,
        verify=verify,
        seed=seed,
    )
    with target.disk() as disk:
        result = run_load(disk, options)
    emit(_measured(result), as_json, lambda data: table(rows(data)))
    return 1 if result.errors or result.mismatches else 0


def _measured(result: Any) -> dict[str, Any]:
    return {
        "requests": result.requests,
        "seconds": round(result.seconds, 3),
        "iops": round(result.iops),
        "MiB_per_second": round(result.bandwidth / (1 << 20), 1),
        "p50_us": result.percentile(50) / 1000,
        "p99_us": result.percentile(99) / 1000,
        "max_us": result.max_latency / 1000,
        "cpu_seconds": round(result.cpu_seconds, 3),
        "kicks": result.kicks,
        "sleeps": result.sleeps,
        "errors": result.errors,
        "mismatches": result.mismatches,
        "first_mismatch": result.first_mismatch,
    }
