"""What ``virtio doctor`` looks at, one function a thing. Each only looks: nothing is started or changed."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from glob import glob
from typing import NamedTuple

__all__ = ["CHECKS", "Result"]

CAP_NET_ADMIN = 12


class Result(NamedTuple):
    """What a check found.

    ``found`` says it in words, ``why`` what it is needed for, ``fix`` how to get it; without what is
    ``essential`` nothing of ours works.
    """

    name: str
    ok: bool
    found: str
    why: str
    fix: str
    essential: bool = False


def kernel() -> Result:
    """Linux, with the system calls we cannot do without."""
    name = os.uname()
    ok = name.sysname == "Linux" and hasattr(os, "memfd_create") and hasattr(os, "eventfd")
    return Result(
        "kernel",
        ok,
        f"{name.sysname} {name.release} on {name.machine}",
        "guest memory is shared as a memfd and events are eventfds",
        "use Linux 4.14 or later, and a Python built for it",
        essential=True,
    )


def compiled_core() -> Result:
    """The compiled data path."""
    try:
        from virtio.memory import table
    except ImportError as error:
        found, ok = str(error), False
    else:
        found, ok = f"loaded from {os.path.dirname(table.__file__ or '')}", True
    return Result(
        "compiled core",
        ok,
        found,
        "rings and guest memory are reached by compiled modules",
        "install pyvirtio from a wheel, or build it: pip install .",
        essential=True,
    )


def kvm() -> Result:
    """Whether a virtual machine can be made with KVM and, where QEMU is there to try it, runs 64-bit code."""
    problem = _kvm_problem() or _kvm_trial()
    return Result(
        "kvm",
        not problem,
        problem or "/dev/kvm runs virtual machines",
        "guests run at full speed; without it QEMU emulates the processor (TCG), some 10 times slower",
        "enable virtualisation in the firmware (or nesting in the hypervisor), and join the group kvm",
    )


def _kvm_problem() -> str:
    import fcntl

    kvm_create_vm, kvm_create_vcpu = 0xAE01, 0xAE41
    held = []
    try:
        held.append(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        held.append(fcntl.ioctl(held[-1], kvm_create_vm, 0))
        held.append(fcntl.ioctl(held[-1], kvm_create_vcpu, 0))
    except OSError as error:
        step = ("cannot be opened", "makes no virtual machine", "makes no processor")[len(held)]
        return f"/dev/kvm {step}: {error.strerror}"
    finally:
        for descriptor in reversed(held):
            os.close(descriptor)
    return ""


def _kvm_trial() -> str:
    from virtio.vm import accelerator

    program = shutil.which(f"qemu-system-{os.uname().machine}")
    choice = accelerator.choose(program) if program else None
    return choice.reason if choice is not None and choice.name != "kvm" else ""


def io_uring() -> Result:
    """Whether io_uring was built in, and this process may use it."""
    try:
        from virtio.devices.blk.aio import io_uring_problem

        problem = io_uring_problem()
    except ImportError as error:
        problem = str(error)
    return Result(
        "io_uring",
        not problem,
        problem or "built in, and the kernel lets us use it",
        "carries a disk's cold reads, flushes and direct I/O; without it threads do, at more processor time",
        "apt install liburing-dev before pyvirtio is built; use Linux 5.11 or later; set sysctl "
        "kernel.io_uring_disabled=0; allow it in the container's seccomp",
    )


def huge_pages() -> Result:
    """Huge pages reserved for guests."""
    pools = {}
    for path in glob("/sys/kernel/mm/hugepages/hugepages-*kB"):
        size = int(path.rpartition("-")[2].removesuffix("kB"))
        pools[size] = int(_read(f"{path}/free_hugepages") or 0)
    found = ", ".join(f"{free} free of {size >> 10} MiB" for size, free in sorted(pools.items()) if free)
    return Result(
        "huge pages",
        bool(found),
        found or "none free",
        "guest memory in huge pages costs fewer TLB misses",
        "sysctl vm.nr_hugepages=512 (1 GiB in pages of 2 MiB)",
    )


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def open_files() -> Result:
    """How many descriptors a process may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Result(
        "open files",
        soft < 0 or soft >= 1024,
        f"{_limit(soft)} per process, {_limit(hard)} at most",
        "every queue takes three descriptors, every memory region one",
        "ulimit -n 65536",
    )


def locked_memory() -> Result:
    """How much memory a process may lock."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return Result(
        "locked memory",
        soft < 0 or soft >= 8 << 20,
        "unlimited" if soft < 0 else f"{soft >> 10} KiB",
        "registered io_uring buffers and VFIO pin guest memory",
        "ulimit -l unlimited (LimitMEMLOCK=infinity in a systemd unit)",
    )


def _limit(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


def qemu() -> Result:
    """QEMU for this machine's architecture."""
    return _program(
        "qemu",
        f"qemu-system-{os.uname().machine}",
        "runs guests with our devices: `virtio run --qemu`, `virtio demo`",
        "apt install qemu-system-x86 (Debian), dnf install qemu-kvm (Fedora)",
    )


def user_mode_linux() -> Result:
    """User-Mode Linux, under either of its names."""
    why = "runs a Linux guest as a process, without KVM or privileges: `virtio run --uml`"
    fix = "apt install user-mode-linux"
    return _program("user-mode linux", "linux.uml", why, fix)


def storage_daemon() -> Result:
    """QEMU's storage daemon."""
    return _program(
        "qemu-storage-daemon",
        "qemu-storage-daemon",
        "opens qcow2, vdi, vmdk and other images; the peer of the benchmarks",
        "apt install qemu-system-common qemu-utils",
    )


def passt() -> Result:
    """passt."""
    why = "gives guests a network without privileges: `virtio net user:`"
    return _program("passt", "passt", why, "apt install passt")


def tap() -> Result:
    """Whether this user may make taps."""
    problem = _tun_problem()
    may = _has_capability(CAP_NET_ADMIN)
    found = "and CAP_NET_ADMIN: taps can be made" if may else "only taps that were made for this user"
    return Result(
        "tap",
        may and not problem,
        problem or f"/dev/net/tun can be opened, {found}",
        "connects guests to the host's interfaces and bridges: `virtio net tap:vm0`",
        "modprobe tun; run as root, or once: sudo ip tuntap add dev vm0 mode tap user $USER",
    )


def _tun_problem() -> str:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/net/tun cannot be opened: {error.strerror}"
    return ""


def _has_capability(number: int) -> bool:
    """Whether this process has a capability, in its own user namespace."""
    line = next((line for line in _read("/proc/self/status").splitlines() if line.startswith("CapEff:")), "")
    return bool(int(line.partition(":")[2] or "0", 16) >> number & 1)


def pyroute2() -> Result:
    """The Python package that sets interfaces up."""
    from importlib.util import find_spec

    found = find_spec("pyroute2")
    return Result(
        "pyroute2",
        found is not None,
        f"loaded from {os.path.dirname(found.origin or '')}" if found else "not installed",
        "gives taps their bridge, addresses and namespace, and makes macvtaps",
        "pip install 'pyvirtio[tap]'",
    )


def _program(name: str, program: str, why: str, fix: str) -> Result:
    path = shutil.which(program)
    return Result(name, path is not None, path or f"{program} is not in PATH", why, fix)


def guest_kernel() -> Result:
    """A kernel that QEMU can boot."""
    readable = [path for path in sorted(glob("/boot/vmlinu[xz]-*")) if os.access(path, os.R_OK)]
    usable = [path for path in readable if os.path.isdir(f"/lib/modules/{path.partition('-')[2]}")]
    return Result(
        "guest kernel",
        bool(usable),
        usable[-1] if usable else "no readable /boot/vmlinuz-* with its modules",
        "QEMU guests of `virtio run` boot a distribution's kernel",
        "apt install linux-image-cloud-amd64; chmod a+r /boot/vmlinuz-* where only root may read it",
    )


def busybox() -> Result:
    """A busybox that needs no libraries."""
    path = shutil.which("busybox")
    static = path is not None and _is_static(path)
    return Result(
        "busybox",
        static,
        "not in PATH" if path is None else path if static else f"{path} is dynamically linked",
        "it is all the user space that a throw-away guest has",
        "apt install busybox-static",
    )


def _is_static(path: str) -> bool:
    """Whether an ELF file asks for no dynamic loader (has no PT_INTERP program header)."""
    from struct import unpack_from

    pt_interp = 3
    with open(path, "rb") as file:
        data = file.read(4096)
    if data[:4] != b"\x7fELF" or data[4:6] != b"\x02\x01" or len(data) < 64:
        return False
    (table_at,) = unpack_from("<Q", data, 32)
    size, count = unpack_from("<HH", data, 54)
    starts = range(table_at, min(table_at + size * count, len(data) - 3), size or 1)
    return all(unpack_from("<I", data, at)[0] != pt_interp for at in starts)


CHECKS: tuple[Callable[[], Result], ...] = (
    kernel,
    compiled_core,
    kvm,
    io_uring,
    huge_pages,
    open_files,
    locked_memory,
    qemu,
    user_mode_linux,
    storage_daemon,
    passt,
    tap,
    pyroute2,
    guest_kernel,
    busybox,
)
"""The checks, in the order in which they are shown."""
