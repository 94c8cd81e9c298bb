"""A device and a front-end in one process, joined by a pair of sockets: no path, no hypervisor."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from virtio.errors import VirtioError
from virtio.vhost_user.frontend import DEFAULT_PROTOCOL_FEATURES, Frontend
from virtio.vhost_user.server import Server, Service

if TYPE_CHECKING:
    from virtio.device import Device

__all__ = ["loopback", "loopback_socket"]


@contextmanager
def loopback_socket(
    device: Device, *, poll_us: int | None = None, withhold: int = 0, reports: list[VirtioError] | None = None
) -> Iterator[socket.socket]:
    """Serve ``device`` on one end of a socket pair and give the other, on which nothing was said yet.

    ``reports`` collects the errors that the back-end complains of. The device stops with the block.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def report(service: Service, error: VirtioError) -> None:
        if reports is not None:
            reports.append(error)

    with ours, Server(on_report=report) as server:
        server.add(device, "loopback", connected=theirs, poll_us=poll_us, withhold=withhold)
        server.start()
        yield ours


@contextmanager
def loopback(
    device: Device,
    *,
    poll_us: int | None = None,
    withhold: int = 0,
    protocol_features: int = DEFAULT_PROTOCOL_FEATURES,
    reports: list[VirtioError] | None = None,
) -> Iterator[Frontend]:
    """Serve ``device`` and give a `Frontend` connected to it, its handshake done.

    >>> with loopback(device) as front:            # doctest: +SKIP
    ...     print(front.get_features())
    """
    with (
        loopback_socket(device, poll_us=poll_us, withhold=withhold, reports=reports) as sock,
        Frontend.from_socket(sock, protocol_features=protocol_features) as front,
    ):
        yield front
