"""Addresses of sockets as people write them: a path, or a host and a port."""

from __future__ import annotations

import os
import socket
import stat
import struct
from typing import NamedTuple

from virtio.errors import NetworkBusyError, NetworkError, NetworkMissingError, NetworkUrlError

__all__ = ["Endpoint", "bind", "forget", "parse"]

PATH_LIMIT = 107
"""Bytes that the name of a unix socket may have."""


class Endpoint(NamedTuple):
    """A socket's family, and its address as Python's sockets take it."""

    family: socket.AddressFamily
    address: str | tuple[str, int]

    def __str__(self) -> str:
        if isinstance(self.address, str):
            return self.address
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def sockaddr(self) -> bytes:
        """What the kernel calls it."""
        family = struct.pack("=H", self.family)
        if isinstance(self.address, str):
            return family + os.fsencode(self.address) + b"\0"
        host, port = self.address
        packed = struct.pack("!H", port)
        if self.family == socket.AF_INET:
            return family + packed + socket.inet_pton(socket.AF_INET, host) + bytes(8)
        return family + packed + bytes(4) + socket.inet_pton(socket.AF_INET6, host) + bytes(4)


def parse(text: str) -> Endpoint:
    """Read a PATH, ``HOST:PORT`` or ``[HOST]:PORT``; what holds a slash is a path. Raises NetworkUrlError."""
    host, colon, port = text.rpartition(":")
    if "/" in text or not colon:
        if not 0 < len(os.fsencode(text)) <= PATH_LIMIT:
            raise NetworkUrlError(
                f"{text!r}: a socket's path takes 1 to {PATH_LIMIT} bytes", fix="write a path or HOST:PORT"
            )
        return Endpoint(socket.AF_UNIX, text)
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise NetworkUrlError(f"{text!r}: {port!r} is no port", fix="write a path or HOST:PORT")
    return _resolve(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))


def _resolve(host: str, port: int) -> Endpoint:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port)[0]
    except OSError as error:
        raise NetworkMissingError(f"host {host!r}: {error.strerror}") from error
    return Endpoint(family, (str(address[0]), port))


def bind(sock: socket.socket, endpoint: Endpoint) -> None:
    """Bind, in place of a unix socket that a dead program left. NetworkBusyError if a live one has it."""
    if isinstance(endpoint.address, str):
        _clear(endpoint.address, sock.type)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, sock.type == socket.SOCK_STREAM)
    try:
        sock.bind(endpoint.address)
    except OSError as error:
        kind = NetworkBusyError if "in use" in str(error) else NetworkError
        raise kind(f"{endpoint}: {error.strerror}") from error


def _clear(path: str, kind: int) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise NetworkBusyError(f"{path} exists and is no socket", fix="take another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass
    raise NetworkBusyError(
        f"{path} is served by another program", fix="end that program or take another path"
    )


def forget(endpoint: Endpoint) -> None:
    """Take away the file of a unix socket that was bound here."""
    if isinstance(endpoint.address, str):
        try:
            os.unlink(endpoint.address)
        except OSError:
            return
