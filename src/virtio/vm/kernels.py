"""Finds kernels that guests can boot: the distribution's for QEMU, and User-Mode Linux."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from virtio.errors import HostError
from virtio.vm import programs
from virtio.vm.modules import ModuleTree

__all__ = ["Kernel", "find_qemu", "find_uml"]

QEMU_PACKAGE = "linux-image-cloud-amd64"
UML_PACKAGE = "user-mode-linux"


@dataclass(frozen=True)
class Kernel:
    """A bootable kernel and the modules that fit it."""

    image: Path
    modules: ModuleTree


def find_qemu(boot: Path = Path("/boot"), modules: Path = Path("/lib/modules")) -> Kernel:
    """The best kernel in ``boot`` whose modules are installed: a cloud kernel first, then the newest.

    Raises HostError when there is none, or when those there are cannot be read by this user.
    """
    _require_x86()
    images = sorted(boot.glob("vmlinuz-*"), key=_preference, reverse=True)
    usable = [image for image in images if (modules / _release(image) / "modules.dep").exists()]
    for image in usable:
        if os.access(image, os.R_OK):
            return Kernel(image, ModuleTree(modules / _release(image), QEMU_PACKAGE))
    if usable:
        raise HostError(f"{usable[0]} may not be read by this user", fix=f"chmod a+r {usable[0]} as root")
    raise HostError(f"no kernel with its modules in {boot} and {modules}", fix=f"apt install {QEMU_PACKAGE}")


def find_uml(modules: Path = Path("/usr/lib/uml/modules")) -> Kernel:
    """User-Mode Linux, the program ``linux.uml``, and its modules; HostError when it is missing."""
    program = Path(programs.require("linux.uml", UML_PACKAGE))
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = told.stdout.strip()
    if not (modules / version / "modules.dep").exists():
        raise HostError(
            f"{program} is {version}, without its modules in {modules}",
            fix=f"apt install --reinstall {UML_PACKAGE}",
        )
    return Kernel(program, ModuleTree(modules / version, UML_PACKAGE))


def _release(image: Path) -> str:
    return image.name.removeprefix("vmlinuz-")


def _preference(image: Path) -> tuple[bool, list[int]]:
    """Cloud kernels are smaller and start faster; among equals the highest version."""
    release = _release(image)
    return "cloud" in release, [int(number) for number in re.findall(r"\d+", release)]


def _require_x86() -> None:
    if platform.machine() not in ("x86_64", "amd64"):
        raise HostError(
            f"guests are x86-64 and this machine is {platform.machine()}", fix="run this on an x86-64 machine"
        )
