"""``virtio run``: a throw-away Linux guest with disks served by pyvirtio."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from virtio.cli.command import Command
from virtio.cli.output import say
from virtio.errors import UsageError

if TYPE_CHECKING:
    from virtio.vhost_user.server import Server
    from virtio.vm import Guest


def _add_disks(
    guest: Guest, server: Server, disks: tuple[str, ...], *, queues: int, read_only: bool, boot: bool
) -> None:
    from virtio.devices.blk import Blk
    from virtio.vm import Blk as Attached

    for number, disk in enumerate(disks):
        path = str(guest.directory / f"disk{number}.sock")
        server.add(Blk(disk, read_only=read_only, num_queues=queues), path)
        guest.devices.append(
            Attached(path, num_queues=queues if queues > 1 else None, boot=boot and number == 0)
        )


def _files(pairs: tuple[str, ...]) -> dict[str, str]:
    """``HOST:GUEST``, or HOST alone for the same path."""
    found = {}
    for pair in pairs:
        host, _, inside = pair.partition(":")
        found[host] = inside or str(Path(host).absolute())
    return found


def _go(guest: Guest, words: tuple[str, ...]) -> int:
    """Do what the guest is there for, and return its exit status."""
    from virtio.vm import terminal

    if guest.foreign:
        if words:
            raise UsageError("a guest with a kernel or boot loader of its own takes no COMMAND")
        return guest.interact() if terminal.is_interactive() else guest.follow(terminal.show)
    if not words and terminal.is_interactive():
        return guest.interact()
    command = words if len(words) > 1 else words[0] if words else sys.stdin.read()
    return guest.run(command, timeout=None, stdout=terminal.show, stderr=_show_error).status


def _show_error(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


@click.command(
    cls=Command,
    context_settings={"allow_interspersed_args": False},
    examples=[
        ("virtio run --disk disk.img -- mount /dev/vda /mnt", "try a disk under a real kernel"),
        ("virtio run --disk mem:64M --file /usr/sbin/mkfs.ext4", "a shell in a guest, on a terminal"),
        ("virtio run --disk debian.raw --boot --memory 1G", "boot what is on the disk"),
    ],
)
@click.option("--qemu", "kind", flag_value="qemu", help="Run QEMU, with KVM where that works.")
@click.option("--uml", "kind", flag_value="uml", help="Run User-Mode Linux.")
@click.option("--disk", "disks", multiple=True, metavar="F", help="Attach a raw image or storage URL.")
@click.option("--read-only", is_flag=True, help="Let the guest only read its disks.")
@click.option("--boot", is_flag=True, help="Boot from the first disk by the boot loader on it.")
@click.option("--kernel", metavar="K", help="Boot this kernel in place of the distribution's.")
@click.option("--initrd", metavar="I", help="Its initial RAM disk.")
@click.option("--append", multiple=True, metavar="PARAMETER", help="Give the kernel a parameter.")
@click.option("--memory", default="256M", show_default=True, help="Memory of the guest.")
@click.option("--cpus", type=click.IntRange(1, 255), default=1, show_default=True, help="Processors.")
@click.option("--file", "files", multiple=True, metavar="HOST[:GUEST]", help="Put a file into the guest.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def command(
    kind: str | None,
    disks: tuple[str, ...],
    read_only: bool,
    boot: bool,
    kernel: str | None,
    initrd: str | None,
    append: tuple[str, ...],
    memory: str,
    cpus: int,
    files: tuple[str, ...],
    command: tuple[str, ...],
) -> int:
    """Run COMMAND in a throw-away Linux guest, with disks served by pyvirtio.

    Its output and exit status are handed through. Without a COMMAND: a shell on a terminal, else the script
    on standard input. Nothing is left of the guest afterwards, whatever is killed.
    """
    from virtio.vhost_user.server import Server
    from virtio.vm import Guest, terminal

    if boot and not disks:
        raise UsageError("nothing to boot from", fix="give a --disk")
    guest = Guest(
        "qemu" if kind == "qemu" else "uml" if kind else None,
        memory=memory,
        cpus=cpus,
        files=_files(files),
        kernel=kernel,
        initrd=initrd,
        append=append,
        firmware=boot,
        terminal=(boot or kernel is not None) and terminal.is_interactive(),
    )
    with closing(guest), Server() as server:
        _add_disks(guest, server, disks, queues=cpus, read_only=read_only, boot=boot)
        server.start()
        say(f"virtio: {guest.reason}")
        with guest:
            return _go(guest, command)
