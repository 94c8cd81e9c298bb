"""Connects to a vhost-user back-end, and says so clearly where something else answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from socket import socket

from virtio.errors import ProtocolError
from virtio.vhost_user.frontend import Frontend

__all__ = ["open_frontend"]


def open_frontend(
    address: str | os.PathLike[str] | socket,
    timeout: float,
    on_config_change: Callable[[], None] | None = None,
) -> Frontend:
    """The front-end of the back-end at a path, or behind a connected socket, after the handshake."""
    try:
        if isinstance(address, socket):
            return Frontend.from_socket(address, timeout=timeout, on_config_change=on_config_change)
        return Frontend.connect(address, timeout=timeout, on_config_change=on_config_change)
    except ProtocolError as error:
        name = "the socket" if isinstance(address, socket) else os.fspath(address)
        raise ProtocolError(
            f"{name} does not speak vhost-user: {error}",
            fix="check that it is a vhost-user socket, not that of a monitor, a console or another protocol",
        ) from error
