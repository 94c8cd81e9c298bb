"""``virtio blk``: a disk for guests."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, cast

import click

from virtio.cli.backend import BackendCommand, Options, backend_options, print_lines, run_backend
from virtio.cli.capabilities import PROGRAMS
from virtio.cli.frontends import BLK, Attachable
from virtio.errors import HostError, StorageMissingError, UsageError

if TYPE_CHECKING:
    from virtio.device import Device
    from virtio.storage import Storage


@click.command(
    cls=BackendCommand,
    program=PROGRAMS["blk"],
    examples=[
        ("virtio blk disk.img", "serve a disk; says where, and what to tell QEMU"),
        ("virtio blk new.img --create 10G", "make an empty disk first"),
        ("virtio blk mem:1G --socket-path /tmp/d.sock", "a disk of memory, at a path of your choice"),
        ("virtio blk disk.img --for libvirt", "only print what libvirt's XML takes"),
        ("truncate -s 20G disk.img; kill -HUP PID", "make it larger under a running guest"),
    ],
)
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--blk-file", metavar="FILE", help="The disk: a path or URL (file:, mem:SIZE, null:SIZE).")
@click.option("--create", metavar="SIZE", help="Make FILE, an empty raw image, if it does not exist.")
@click.option("--read-only", is_flag=True, help="Refuse writes.")
@click.option(
    "--num-queues",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Request queues, served in parallel.",
)
@click.option(
    "--queue-size", type=click.IntRange(4, 32768), default=256, show_default=True, help="Descriptors in each."
)
@click.option(
    "--logical-block-size",
    type=click.Choice(["512", "4096"]),
    help="Bytes in a sector as the guest sees it. [default: the disk's own]",
)
@click.option(
    "--cache",
    type=click.Choice(["writeback", "writethrough", "none"]),
    default="writeback",
    show_default=True,
    help="When a write is durable: after a flush, at once; none: O_DIRECT.",
)
@click.option(
    "--aio",
    type=click.Choice(["auto", "io_uring", "threads"]),
    default="auto",
    show_default=True,
    help="Who does requests that wait; auto: io_uring if it can be had.",
)
@click.option("--serial", default="", metavar="TEXT", help="Serial number, up to 20 ASCII characters.")
@backend_options
def command(
    file: str | None,
    blk_file: str | None,
    create: str | None,
    read_only: bool,
    num_queues: int,
    queue_size: int,
    logical_block_size: str | None,
    cache: str,
    aio: str,
    serial: str,
    options: Options,
) -> int:
    """Serve a disk.

    Listens for one hypervisor after the other (vhost-user) until SIGTERM or ^C. SIGHUP looks again how large
    the file is, and tells the guest.
    """
    url = _one(file, blk_file)
    address = options.settled("blk", os.path.basename(url))
    if options.frontend is not None:
        print_lines(options, Attachable(BLK, address, num_queues, queue_size))
        return 0
    _check_size(queue_size)
    if create is not None:
        _create(url, create)
    with _opened(url, read_only, cache) as storage:
        block = int(logical_block_size) if logical_block_size else None
        make = partial(
            _device, storage, read_only=read_only, num_queues=num_queues, queue_size=queue_size,
            logical_block_size=block, cache=cache, aio=aio, serial=serial,
        )  # fmt: skip
        access = ", read-only" if read_only or storage.read_only else ""
        title = f"disk {url} ({_in_words(storage.size)}{access})"
        return run_backend(options, address, make, title=title, on_hangup=_look_again)


def _one(file: str | None, blk_file: str | None) -> str:
    url = blk_file or file
    if not url:
        raise UsageError("which disk is to be served?", fix="virtio blk FILE, or --blk-file FILE")
    if file and blk_file:
        raise UsageError(f"{file} and {blk_file} are two disks; one is served")
    return url


def _check_size(queue_size: int) -> None:
    if queue_size & (queue_size - 1):
        raise UsageError(f"a split ring of {queue_size} descriptors cannot be", fix="use a power of two")


def _create(path: str, text: str) -> None:
    from virtio.storage import parse_size

    size = parse_size(text)
    if size < 512 or size % 512:
        raise UsageError(f"{text} is no size for a disk", fix="use a multiple of 512 bytes, such as 10G")
    try:
        fd = os.open(path.removeprefix("file:"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return
    except OSError as error:
        raise HostError(f"cannot make {path}: {error.strerror}") from error
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        os.unlink(path.removeprefix("file:"))
        raise HostError(f"cannot make {path} with {text}: {error.strerror}") from error
    finally:
        os.close(fd)


def _opened(url: str, read_only: bool, cache: str) -> Storage:
    from virtio.storage import open_storage

    try:
        return open_storage(url, read_only=read_only, cache=cache)
    except StorageMissingError as error:
        raise type(error)(
            str(error), fix="check the path, or make an empty disk with --create 10G"
        ) from error


def _device(storage: Storage, **settings: object) -> Device:
    from virtio.devices.blk import Blk

    return Blk(storage, **settings)  # type: ignore[arg-type]


def _look_again(device: Device) -> None:
    """The file may have been made larger or smaller."""
    from virtio.cli.output import say
    from virtio.devices.blk import Blk

    disk = cast(Blk, device)
    before = disk.capacity
    after = disk.refresh()
    say(f"the disk has {_in_words(after)}" + ("" if after != before else ", as before"))


def _in_words(size: int) -> str:
    amount, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.4g} {units[0]}"
