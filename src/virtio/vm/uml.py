"""User-Mode Linux's command line for a guest."""

from __future__ import annotations

import os
import re
from pathlib import Path

from virtio.errors import UsageError
from virtio.vm.setup import Lines, Setup

__all__ = ["KERNEL_PARAMETERS", "command", "environment"]

KERNEL_PARAMETERS = ("panic=-1", "quiet", "raid=noautodetect", "selinux=0", "random.trust_cpu=on")
PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+-]{1,100}")
"""Socket paths that can stand in a kernel parameter, before ``:ID``, and fit a socket address."""


def command(program: str, setup: Setup, lines: Lines, directory: Path) -> list[str]:
    """The command line; odd socket paths get a plain alias in ``directory``.

    Raises UsageError for what User-Mode Linux cannot do.
    """
    if setup.cpus != 1:
        raise UsageError("User-Mode Linux has one processor", fix="use QEMU (--qemu)")
    initrd = [f"initrd={setup.initrd}", "root=/dev/ram0", "rdinit=/init"] if setup.initrd else []
    return [
        *(program, f"mem={setup.memory // 1024}K", f"uml_dir={directory}/", "umid=guest"),
        *initrd,
        *_consoles(lines),
        *(KERNEL_PARAMETERS if lines.serial else ()),
        *_devices(setup, directory),
        *setup.append,
        *setup.arguments,
    ]


def environment(directory: Path) -> dict[str, str]:
    """UML's memory is a file in TMPDIR: it belongs on a tmpfs, a disk would be written to all the time."""
    shared = "/dev/shm"
    return {"TMPDIR": shared if os.access(shared, os.W_OK) else str(directory)}


def _consoles(lines: Lines) -> list[str]:
    """Its standard output is the console's log already; the agent's lines are further consoles."""
    console = "con0=null,fd:1" if lines.console is None else f"con0=fd:{lines.console}"
    serial = [f"con{index}=fd:{fd}" for index, fd in enumerate(lines.serial, start=1)]
    names = ["vm_out=tty1", "vm_err=tty2"] if lines.serial else []
    return ["con=null", "ssl=null", console, *serial, *names]


def _devices(setup: Setup, directory: Path) -> list[str]:
    sockets = (getattr(device, "socket", "") for device in setup.devices)
    return [
        device.uml(_plain_path(socket, directory / f"device{index}"))
        for index, (device, socket) in enumerate(zip(setup.devices, sockets, strict=True))
    ]


def _plain_path(socket: str, alias: Path) -> str:
    path = os.path.abspath(socket)
    if PLAIN_PATH.fullmatch(path):
        return path
    alias.symlink_to(path)
    return str(alias)
