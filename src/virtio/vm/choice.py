"""Which hypervisor a guest runs on, and the one line that says why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from virtio.errors import HostError, UsageError
from virtio.vm import accelerator, kernels, qemu
from virtio.vm.accelerator import Accelerator
from virtio.vm.devices import Attached

__all__ = ["Choice", "Kind", "choose"]

Kind = Literal["qemu", "uml"]


@dataclass(frozen=True)
class Choice:
    """``program`` is QEMU's path, or that of User-Mode Linux."""

    kind: Kind
    program: str
    reason: str
    accelerator: Accelerator | None = None


def choose(kind: Kind | None, devices: Iterable[Attached], *, only_qemu: bool = False) -> Choice:
    """The ``kind`` asked for; else QEMU where KVM works, else User-Mode Linux, else QEMU's translator.

    User-Mode Linux is left out where a device needs more than it has, or with ``only_qemu``. Raises HostError
    naming the package when nothing usable is installed.
    """
    if kind not in (None, "qemu", "uml"):
        raise UsageError(f"{kind!r} is no kind of guest", fix="qemu or uml")
    if kind == "uml":
        return _uml("as asked for")
    if kind == "qemu":
        return _qemu()
    try:
        with_qemu = _qemu()
    except HostError as missing:
        if only_qemu or not _fits_uml(devices):
            raise
        return _uml(f"because {missing}")
    assert with_qemu.accelerator is not None
    if with_qemu.accelerator.name == "kvm" or only_qemu or not _fits_uml(devices):
        return with_qemu
    try:
        return _uml("which starts faster than " + with_qemu.accelerator.reason)
    except HostError:
        return with_qemu


def _qemu() -> Choice:
    program = qemu.program()
    found = accelerator.choose(program)
    return Choice("qemu", program, f"QEMU with {found.reason}", found)


def _uml(why: str) -> Choice:
    return Choice("uml", str(kernels.find_uml().image), f"User-Mode Linux, {why}")


def _fits_uml(devices: Iterable[Attached]) -> bool:
    try:
        for device in devices:
            device.uml("")
    except UsageError:
        return False
    return True
