"""What a guest is made of, before any hypervisor is chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from virtio.errors import UsageError
from virtio.vm.devices import Attached

__all__ = ["Lines", "Setup", "parse_memory"]

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SMALLEST_MEMORY = 16 << 20


@dataclass(frozen=True)
class Setup:
    """A guest: ``memory`` in bytes; no ``kernel`` means that the firmware boots from a disk.

    ``append`` are kernel parameters, ``arguments`` go to the hypervisor as they are. With ``reboot`` a guest
    that reboots by itself starts over, otherwise it ends.
    """

    memory: int
    cpus: int = 1
    devices: Sequence[Attached] = ()
    kernel: Path | None = None
    initrd: Path | None = None
    append: Sequence[str] = ()
    arguments: Sequence[str] = ()
    reboot: bool = False


@dataclass(frozen=True)
class Lines:
    """What connects a guest to us: ``log`` is the path of its console's record, the rest are the numbers of
    connected sockets: the machine protocol (QEMU), a terminal's console, the two serial lines of the agent.
    """

    log: str
    control: int | None = None
    console: int | None = None
    serial: Sequence[int] = ()


def parse_memory(text: str | int) -> int:
    """``"256M"``, ``"1G"`` or a number of bytes, in bytes; UsageError for anything else."""
    match = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", str(text).strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is not an amount of memory", fix="write it like 256M or 1G")
    size = int(match[1]) * UNITS[match[2].upper()]
    if size < SMALLEST_MEMORY or size % 4096:
        raise UsageError(f"{text!r} is less than 16M or no multiple of 4096", fix="write it like 256M or 1G")
    return size
