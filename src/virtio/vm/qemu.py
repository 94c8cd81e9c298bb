"""QEMU's command line for a guest."""

from __future__ import annotations

import os
import socket
import subprocess

from virtio.vm import cache, programs
from virtio.vm.accelerator import Accelerator
from virtio.vm.devices import Net, quote
from virtio.vm.qmp import Qmp
from virtio.vm.setup import Lines, Setup

__all__ = ["KERNEL_PARAMETERS", "command", "program", "reconnect_option"]

PACKAGE = "qemu-system-x86"
KERNEL_PARAMETERS = (
    "console=ttyS0", "panic=-1", "quiet",
    # Each of these saves a tenth of a second or more under TCG: calibration, self-tests, mitigations
    # against neighbours that a throw-away guest has not got.
    "tsc=reliable", "no_timer_check", "nokaslr", "mitigations=off", "noreplace-smp", "cryptomgr.notests",
    "audit=0", "selinux=0", "apparmor=0", "random.trust_cpu=on",
)  # fmt: skip
LINE_INTERRUPTS = (3, 5)
"""ISA interrupts of the second and third serial port: shared ones lose edges."""


def program() -> str:
    """Path of QEMU; HostError when it is not installed."""
    return programs.require("qemu-system-x86_64", PACKAGE)


def command(qemu: str, setup: Setup, accelerator: Accelerator, lines: Lines) -> list[str]:
    """The command line that starts ``setup`` with the QEMU at path ``qemu``."""
    reconnect = reconnect_option(qemu) if any(getattr(d, "reconnect", None) for d in setup.devices) else ""
    devices = (device.qemu(index, reconnect) for index, device in enumerate(setup.devices))
    return [
        *(qemu, "-nodefaults", "-no-user-config", "-display", "none"),
        *_machine(setup, accelerator),
        *([] if setup.reboot else ["-no-reboot"]),
        *("-chardev", f"socket,id=qmp,fd={lines.control}", "-mon", "chardev=qmp,mode=control"),
        *_console(lines),
        *_serial_lines(lines),
        *_boot(setup, lines),
        *_defaults(setup, accelerator),
        *(argument for device in devices for argument in device),
        *setup.arguments,
    ]


def _machine(setup: Setup, accelerator: Accelerator) -> list[str]:
    """Memory comes from a memfd that back-ends can map too."""
    return [
        *("-machine", f"q35,accel={accelerator.name},memory-backend=memory"),
        *("-object", f"memory-backend-memfd,id=memory,size={setup.memory},share=on"),
        *("-m", f"{setup.memory // 1024}k", "-smp", str(setup.cpus), "-cpu", accelerator.processor),
    ]


def _console(lines: Lines) -> list[str]:
    if lines.console is None:
        chardev = f"file,id=console,path={quote(lines.log)},append=on"
    else:
        chardev = f"socket,id=console,fd={lines.console},logfile={quote(lines.log)},logappend=on"
    return ["-chardev", chardev, "-device", "isa-serial,chardev=console,index=0"]


def _serial_lines(lines: Lines) -> list[str]:
    ports: list[str] = []
    for index, (fd, interrupt) in enumerate(zip(lines.serial, LINE_INTERRUPTS, strict=False), start=1):
        ports += ["-chardev", f"socket,id=line{index},fd={fd}"]
        ports += ["-device", f"isa-serial,chardev=line{index},index={index},irq={interrupt}"]
    return ports


def _boot(setup: Setup, lines: Lines) -> list[str]:
    if setup.kernel is None:
        return []
    own = (*KERNEL_PARAMETERS, "vm_out=ttyS1", "vm_err=ttyS2") if lines.serial else ()
    initrd = ["-initrd", os.fspath(setup.initrd)] if setup.initrd else []
    return ["-kernel", os.fspath(setup.kernel), *initrd, "-append", " ".join((*own, *setup.append))]


def _defaults(setup: Setup, accelerator: Accelerator) -> list[str]:
    """Of devices, unless they say otherwise."""
    if accelerator.name == "kvm" or not any(isinstance(device, Net) for device in setup.devices):
        return []
    # QEMU 7.2 crashes without KVM when the guest's driver of a vhost-user NIC uses MSI-X.
    return ["-global", f"{Net.driver}.vectors=0"]


def reconnect_option(qemu: str) -> str:
    """How this QEMU spells a socket's reconnection: ``reconnect-ms``, or ``reconnect`` (seconds)."""
    status = os.stat(qemu)
    name = f"chardev-{status.st_ino}-{status.st_mtime_ns}"
    return str(cache.cached_value(name, lambda: _probe_reconnect(qemu)))


def _probe_reconnect(qemu: str) -> str:
    """Ask QEMU for the schema of its own protocol."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [qemu, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"],
            stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL,
        )  # fmt: skip
    qmp = Qmp(ours, timeout=30)
    try:
        schema = qmp.execute("query-qmp-schema")
    finally:
        qmp.close()
        process.kill()  # told to quit, it may do so before it has said all that it was asked
        process.wait()
    members = {member.get("name") for entry in schema for member in entry.get("members", ())}
    return "reconnect-ms" if "reconnect-ms" in members else "reconnect"
