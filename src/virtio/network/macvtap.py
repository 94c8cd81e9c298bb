"""``macvtap:``: a NIC of its own on the wire of one of this machine's interfaces."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from virtio.errors import NetworkError, NetworkMissingError, NetworkPermissionError, NetworkUrlError
from virtio.network import routes, tun
from virtio.network.interface import Interface
from virtio.network.link import Link
from virtio.network.namespace import inside
from virtio.network.options import flag, number
from virtio.network.tap import MOST_QUEUES, TapLink, check_name
from virtio.network.url import Location

__all__ = ["open_macvtap"]

MODES = ("bridge", "vepa", "private", "passthru")
MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", re.IGNORECASE)


def open_macvtap(location: Location) -> Link:
    """Make a macvtap above the interface ``macvtap:PARENT``; it goes when the link is closed.

    The kernel gives it a MAC address, or takes ``mac``; the guest must use that one: ``link.interface.mac``.
    """
    location.only("mode", "netns", "mac", "queues", "up")
    parent = check_name(location, location.rest)
    mode, mac = location.options.get("mode", "bridge"), location.options.get("mac")
    if mode not in MODES:
        raise NetworkUrlError(f"{location.url}: mode={mode} is none of {', '.join(MODES)}")
    if mac is not None and not MAC.fullmatch(mac):
        raise NetworkUrlError(f"{location.url}: mac={mac} is no address of one station")
    queues = number(location, "queues", 1, 1, MOST_QUEUES)
    namespace = location.options.get("netns")
    name = f"mvt{secrets.token_hex(4)}"
    routes.make_macvtap(name, parent, mode, namespace, mac)
    interface = Interface(name, namespace)
    fds: list[int] = []
    try:
        fds.extend(_open_queues(interface, queues))
        if flag(location, "up", True):
            interface.set_up()
        return TapLink(f"macvtap:{parent}", fds, interface, doomed=True, follows=False)
    except BaseException:
        interface.close()
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(NetworkError):
            routes.delete(interface)
        raise


def _open_queues(interface: Interface, queues: int) -> list[int]:
    path = Path(f"/dev/tap{interface.index}")
    fds: list[int] = []
    try:
        for _ in range(queues):
            fds.append(_open(path))
            inside(interface.namespace, lambda: tun.attach(fds[-1], interface.name, queues > 1))
            tun.prepare(fds[-1])
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NetworkMissingError(
            f"{path} is missing: nobody makes device files here", fix="let /dev be a devtmpfs, or run udev"
        ) from error
    except PermissionError as error:
        raise NetworkPermissionError(f"{path}: {error.strerror}", fix="run it as root") from error
