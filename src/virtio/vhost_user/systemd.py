"""The two conventions of service managers: sockets handed over at the start, and word that we are ready."""

from __future__ import annotations

import os
import socket

__all__ = ["listen_fds", "notify"]

_FIRST = 3


def listen_fds() -> list[int]:
    """The descriptors that socket activation passed to this very process, in order (sd_listen_fds)."""
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    fds = list(range(_FIRST, _FIRST + int(count)))
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds


def notify(state: str = "READY=1") -> bool:
    """Tell the service manager ``state`` (sd_notify); whether there was one to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            return False
    return True
