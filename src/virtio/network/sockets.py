"""``stream:`` and ``dgram:``: links that QEMU's -netdev stream and -netdev dgram join."""

from __future__ import annotations

import os
import socket
import stat

from virtio.errors import NetworkError, NetworkUrlError
from virtio.network import endpoint
from virtio.network.dgram import DgramLink
from virtio.network.keeper import Connector, Dialer, Given, Keeper, Listener
from virtio.network.link import Link
from virtio.network.options import flag, number
from virtio.network.stream import StreamLink
from virtio.network.url import Location

__all__ = ["open_dgram", "open_stream"]

RECONNECT_SECONDS = 1
BUFFER = 1 << 20
"""Bytes that a datagram socket may hold."""


def open_stream(location: Location) -> Link:
    """Open ``stream:PATH`` or ``stream:HOST:PORT``: connect, or with ``server=on`` listen."""
    location.only("server", "reconnect", "fd")
    dialer = _stream_dialer(location)
    link = StreamLink(f"stream:{location.rest or 'fd'}")
    link.keep(Keeper(link, dialer))
    return link


def _stream_dialer(location: Location) -> Dialer:
    if "fd" in location.options:
        return Given(_adopt(location, socket.SOCK_STREAM))
    target = endpoint.parse(location.rest)
    seconds = number(location, "reconnect", RECONNECT_SECONDS, 0, 86400)
    if flag(location, "server"):
        if "reconnect" in location.options:
            raise NetworkUrlError(f"{location.url}: a server does not connect", fix="leave reconnect= away")
        return Listener(target)
    return Connector(target, seconds, None if seconds else _connect(target))


def _connect(target: endpoint.Endpoint) -> socket.socket:
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        sock.connect(target.address)
    except OSError as error:
        sock.close()
        raise NetworkError(
            f"stream:{target}: {error.strerror}", fix="start the other end first, or leave reconnect=0 away"
        ) from error
    return sock


def _adopt(location: Location, kind: socket.SocketKind) -> socket.socket:
    if location.rest:
        raise NetworkUrlError(f"{location.url}: fd= and an address are one too many")
    fd = number(location, "fd", -1, 0, 1 << 20)
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise NetworkUrlError(f"{location.url}: descriptor {fd} is not open") from error
    sock = socket.socket(fileno=fd) if is_socket else None
    if sock is None or sock.type != kind:
        if sock is not None:
            sock.detach()
        raise NetworkUrlError(f"{location.url}: descriptor {fd} is no {kind.name[5:].lower()} socket")
    os.set_inheritable(fd, False)
    return sock


def open_dgram(location: Location) -> Link:
    """Open ``dgram:REMOTE?local=LOCAL``, each a PATH or HOST:PORT, or ``dgram:?fd=N``, an open socket."""
    location.only("local", "remote", "fd")
    if "fd" in location.options:
        sock = _adopt(location, socket.SOCK_DGRAM)
        sock.setblocking(False)
        target = location.options.get("remote")
        remote = endpoint.parse(target).sockaddr if target else b""
        return DgramLink("dgram:fd", sock.detach(), remote)
    return _bound_dgram(location)


def _bound_dgram(location: Location) -> Link:
    to, at = location.rest or location.options.get("remote", ""), location.options.get("local", "")
    if not to or not at:
        raise NetworkUrlError(
            f"{location.url}: needs where to send to and where to receive",
            fix="write dgram:REMOTE?local=LOCAL",
        )
    remote, local = endpoint.parse(to), endpoint.parse(at)
    if remote.family != local.family:
        raise NetworkUrlError(f"{location.url}: {remote} and {local} are addresses of different kinds")
    sock = socket.socket(local.family, socket.SOCK_DGRAM)
    try:
        endpoint.bind(sock, local)
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        link = DgramLink(f"dgram:{remote}", sock.fileno(), remote.sockaddr, lambda: endpoint.forget(local))
    except BaseException:
        sock.close()
        raise
    sock.detach()
    return link
