"""The kernel's tap devices: their ioctls, and what their refusals mean."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

from virtio.errors import (
    NetworkBusyError,
    NetworkError,
    NetworkKindError,
    NetworkMissingError,
    NetworkPermissionError,
)
from virtio.spec import net

__all__ = ["attach", "offloads", "open_tap", "prepare", "set_enabled", "set_offloads", "set_persistent"]

TUN = Path("/dev/net/tun")
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETOFFLOAD = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454D0
TUNSETVNETHDRSZ, TUNSETQUEUE, TUNSETVNETLE = 0x400454D8, 0x400454D9, 0x400454DC
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE = 0x0200, 0x0400
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_UFO, TUN_F_USO4, TUN_F_USO6 = (
    1 << n for n in range(7)
)
IFREQ = struct.Struct("=16sH22x")
HEADER_SIZE = 12

TAKEN = {
    net.F_GUEST_CSUM: TUN_F_CSUM,
    net.F_GUEST_TSO4: TUN_F_TSO4,
    net.F_GUEST_TSO6: TUN_F_TSO6,
    net.F_GUEST_ECN: TUN_F_TSO_ECN,
    net.F_GUEST_UFO: TUN_F_UFO,
}
ALWAYS = (net.F_CSUM, net.F_HOST_TSO4, net.F_HOST_TSO6, net.F_HOST_ECN, net.F_HOST_UFO)


def open_tap(name: str, multi_queue: bool) -> int:
    """Open the tap ``name``, which is made if it does not exist; with ``multi_queue`` one more queue of it.

    In the namespace of this thread. Raises a NetworkError that says why not.
    """
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NetworkMissingError(
            f"{TUN} is missing: this kernel or container has no taps",
            fix="modprobe tun; in a container: --device /dev/net/tun",
        ) from error
    except OSError as error:
        raise NetworkPermissionError(f"{TUN} cannot be opened: {error.strerror}") from error
    try:
        attach(fd, name, multi_queue)
        prepare(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def attach(fd: int, name: str, multi_queue: bool) -> None:
    """Make ``fd`` a queue of the tap: frames with a virtio_net_hdr before them."""
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if multi_queue else 0)
    try:
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags))
    except OSError as error:
        raise _refusal(name, multi_queue, error) from error


def _refusal(name: str, multi_queue: bool, error: OSError) -> NetworkError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return NetworkPermissionError(
            f"tap {name}: not permitted: it takes CAP_NET_ADMIN to make it, or to own it to use it"
        )
    if error.errno == errno.EBUSY:
        return NetworkBusyError(f"tap {name} is in use by another program")
    if error.errno in (errno.EINVAL, errno.EEXIST):
        queues = "several queues" if multi_queue else "a single queue"
        return NetworkKindError(f"interface {name} exists and is no tap with {queues}")
    if error.errno == errno.E2BIG:
        return NetworkKindError(f"tap {name} has all the queues that the kernel gives it")
    return NetworkError(f"tap {name}: {error.strerror}")


def prepare(fd: int) -> None:
    """Headers of 12 bytes in the machine's byte order, and no offloads for now."""
    fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("=i", HEADER_SIZE))
    fcntl.ioctl(fd, TUNSETVNETLE, struct.pack("=i", sys.byteorder == "little"))
    fcntl.ioctl(fd, TUNSETOFFLOAD, 0)


def offloads(fd: int) -> int:
    """Frames that the kernel takes unfinished, as feature bits CSUM and HOST_*. Leaves none switched on."""
    mask = sum(1 << bit for bit in ALWAYS)
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6)
        mask |= 1 << net.F_HOST_USO
    except OSError:  # Linux before 6.2
        pass
    fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
    return mask


def set_offloads(fd: int, features: int) -> None:
    """Have the kernel leave undone what the guest takes undone: bits GUEST_CSUM, GUEST_TSO4 and so on."""
    wanted = sum(flag for bit, flag in TAKEN.items() if features >> bit & 1)
    if not wanted & TUN_F_CSUM:
        wanted = 0
    both = features >> net.F_GUEST_USO4 & features >> net.F_GUEST_USO6 & 1
    if wanted and both:  # the kernel knows them together only
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, wanted | TUN_F_USO4 | TUN_F_USO6)
        except OSError:  # Linux before 6.2 never segments UDP so
            pass
        else:
            return
    fcntl.ioctl(fd, TUNSETOFFLOAD, wanted)


def set_enabled(fd: int, enabled: bool) -> None:
    """Whether frames are spread to this queue, of several."""
    fcntl.ioctl(fd, TUNSETQUEUE, IFREQ.pack(b"", IFF_ATTACH_QUEUE if enabled else IFF_DETACH_QUEUE))


def set_persistent(fd: int, persistent: bool, owner: int | None = None) -> None:
    """Whether the tap stays when nobody has it open, and which user may open it then."""
    try:
        if owner is not None:
            fcntl.ioctl(fd, TUNSETOWNER, owner)
        fcntl.ioctl(fd, TUNSETPERSIST, int(persistent))
    except OSError as error:
        raise NetworkPermissionError(f"the tap cannot be made to stay: {error.strerror}") from error
