"""Decides between KVM and QEMU's own translator (TCG) by trying, not by looking.

/dev/kvm may open and still be of no use: nested virtualisation that is switched off half-way, a processor
shown without the features that a 64-bit kernel needs, or one so slow that TCG beats it. So a virtual machine
of a few bytes is started: it enters 64-bit mode and leaves through a debug port.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from virtio.vm import cache

__all__ = ["Accelerator", "choose", "try_accelerator"]

TRIAL_SECONDS = 2.0
TRIAL_STATUS = (0x10 << 1) | 1
"""isa-debug-exit ends QEMU with (value << 1) | 1."""

KVM_DEVICE = "/dev/kvm"


@dataclass(frozen=True)
class Accelerator:
    """``name`` is "kvm" or "tcg"; ``reason`` says in one line why."""

    name: str
    reason: str

    @property
    def processor(self) -> str:
        """The processor model with most features."""
        return "host" if self.name == "kvm" else "max"


# A Multiboot (version 1) kernel, loaded and entered in 32-bit protected mode at 1 MiB:
#   header    magic, flags (addresses are given), checksum; header, load, load end, bss end, entry
#   entry:    movl $0x201003, 0x200000      PML4[0] -> table at 0x201000
#             movl $0x202003, 0x201000      PDPT[0] -> table at 0x202000
#             movl $0x83, 0x202000          PD[0]: 2 MiB page at 0
#             movl $0x200000, %eax; movl %eax, %cr3
#             movl %cr4, %eax; orl $0x20, %eax; movl %eax, %cr4                       PAE
#             movl $0xC0000080, %ecx; rdmsr; orl $0x100, %eax; wrmsr                  EFER.LME
#             movl %cr0, %eax; orl $0x80000000, %eax; movl %eax, %cr0                 PG
#             lgdt gdtr; ljmp $8, $long
#   long:     movabs $0x123456789abcdef0, %rax; shr $60, %rax; shl $4, %eax           0x10 in 64-bit mode only
#             out %al, $0xf4; 1: hlt; jmp 1b
#   gdt:      null, 64-bit code; gdtr: limit 15, its address
TRIAL_KERNEL = bytes.fromhex(
    "02b0ad1b00000100fe4f51e4 0000100000001000a6001000a600100020001000"
    "c7050000200003102000 c7050010200003202000 c7050020200083000000"
    "b8000020000f22d8 0f20e083c8200f22e0 b9800000c00f320d000100000f30"
    "0f20c00d000000800f22c0 0f0115a0001000 ea760010000800"
    "48b8f0debc9a78563412 48c1e83c c1e004 e6f4 f4ebfd 0f1f4000"
    "0000000000000000 00000000009a2000 0f00900010 00".replace(" ", "")
)


def choose(program: str) -> Accelerator:
    """KVM where the trial succeeds with the QEMU at ``program``, else TCG; remembered for this boot."""
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        what = "may not be opened by this user" if os.path.exists(KVM_DEVICE) else "is not there"
        return Accelerator("tcg", f"TCG, because {KVM_DEVICE} {what}")
    identity = f"{_boot_id()}-{os.stat(program).st_mtime_ns}-{os.getuid()}"
    trouble = cache.cached_value(f"kvm-{identity}", lambda: try_accelerator(program, "kvm"))
    if trouble:
        return Accelerator("tcg", f"TCG, because KVM does not work here: {trouble}")
    return Accelerator("kvm", "KVM, a trial machine ran")


def try_accelerator(program: str, name: str) -> str:
    """Run the trial machine; empty when it reached 64-bit mode in time, else what went wrong."""
    with tempfile.NamedTemporaryFile(prefix="pyvirtio-trial-") as kernel:
        kernel.write(TRIAL_KERNEL)
        kernel.flush()
        # kvm64 is the least that a 64-bit kernel expects, "enforce" refuses to do with less.
        command = [
            program,
            "-accel",
            name,
            "-cpu",
            "kvm64,enforce",
            "-m",
            "16M",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-kernel",
            kernel.name,
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=4",
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TRIAL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"a trial machine did not reach 64-bit mode within {TRIAL_SECONDS:g} s"
    if done.returncode == TRIAL_STATUS:
        return ""
    complaints = [line.rpartition(": ")[2] for line in done.stderr.splitlines() if line]
    return "; ".join(complaints) or f"a trial machine ended with status {done.returncode}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
