"""Where a device is served: the address people write, and the socket it becomes."""

from __future__ import annotations

import os
import socket
import stat
from enum import Enum
from typing import NamedTuple

from virtio.errors import AddressInUseError, HostError, UsageError

__all__ = ["Address", "How", "Listener", "adopt", "connect", "parse"]

_PATH_LIMIT = 107
"""Bytes that the name of a unix socket may have."""


class How(Enum):
    """What the part before the colon says."""

    LISTEN = "vhost-user"
    CONNECT = "connect"
    FD = "fd"


class Address(NamedTuple):
    """A parsed address: a path to listen on or connect to, or the number of an open descriptor."""

    how: How
    target: str

    def __str__(self) -> str:
        return self.target if self.how is How.LISTEN else f"{self.how.value}:{self.target}"


def parse(text: str | os.PathLike[str]) -> Address:
    """Read ``PATH``, ``vhost-user:PATH`` (listen), ``connect:PATH`` or ``fd:N``; UsageError otherwise."""
    text = os.fspath(text)
    scheme, colon, rest = text.partition(":")
    if not colon or "/" in scheme:
        scheme, rest = How.LISTEN.value, text
    try:
        how = How(scheme)
    except ValueError:
        known = ", ".join(f"{how.value}:" for how in How)
        raise UsageError(
            f"{text!r}: there is no transport {scheme!r}",
            fix=f"use a path or one of {known}; ./ before odd names",
        ) from None
    if how is How.FD:
        if not rest.isdecimal():
            raise UsageError(f"{text!r}: {rest!r} is not the number of a descriptor")
    elif not 0 < len(os.fsencode(rest)) <= _PATH_LIMIT:
        raise UsageError(f"{text!r}: a socket's path takes 1 to {_PATH_LIMIT} bytes")
    return Address(how, rest)


def adopt(fd: int) -> tuple[socket.socket, bool]:
    """Take over an inherited unix stream socket; whether it is listening (else it is connected).

    UsageError if the descriptor is not open or is something else.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise UsageError(f"descriptor {fd} is not a socket")
    except OSError as error:
        raise UsageError(f"descriptor {fd} is not open") from error
    sock = socket.socket(fileno=fd)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise UsageError(f"descriptor {fd} is not a unix stream socket")
    os.set_inheritable(fd, False)
    return sock, bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def connect(path: str, timeout: float | None = None) -> socket.socket:
    """Connect to a listening unix socket; HostError that says why it cannot be."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except TimeoutError as error:
        sock.close()
        raise HostError(
            f"{path}: whoever listens does not accept a connection",
            fix="it may be serving another front-end, and serves one at a time",
        ) from error
    except OSError as error:
        sock.close()
        raise HostError(f"cannot connect to {path}: {error.strerror or error}", fix=_advice(error)) from error
    return sock


def _advice(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "start the program that listens there first, or correct the path"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there any more: start that program again"
    if isinstance(error, PermissionError):
        return "run as a user who may write to the socket"
    return ""


class Listener:
    """A listening socket: one made at a path, removed when closed, or an inherited one, left alone.

    A socket file that nobody answers on is replaced; AddressInUseError if another program serves it.
    ``mode`` and ``group`` say who may connect.
    """

    def __init__(self, sock: socket.socket, path: str | None = None) -> None:
        self.socket = sock
        sock.setblocking(False)
        self._path = path
        self._identity = _identity(path) if path is not None else None

    @classmethod
    def at(cls, path: str, *, mode: int | None = None, group: str | int | None = None) -> Listener:
        """Listen at ``path``. HostError or AddressInUseError if that cannot be."""
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Nobody may connect before mode and group are as wanted.
            if mode is not None:
                os.fchmod(sock.fileno(), mode)
            sock.bind(path)
        except OSError as error:
            sock.close()
            raise HostError(f"cannot listen at {path}: {error.strerror or error}") from error
        listener = cls(sock, path)
        try:
            if group is not None:
                os.chown(path, -1, _group_id(group))
            if mode is not None:
                os.chmod(path, mode)
            sock.listen()
        except OSError as error:
            listener.close()
            raise HostError(f"cannot set up {path}: {error.strerror or error}") from error
        except UsageError:
            listener.close()
            raise
        return listener

    def accept(self) -> socket.socket | None:
        """The next front-end's connection; None if it is not there after all. OSError if it cannot be had."""
        try:
            return self.socket.accept()[0]
        except (BlockingIOError, ConnectionError):
            return None

    def close(self) -> None:
        """Stop listening; remove the socket file if it is still the one made here."""
        if self._path is not None and self._identity is not None and _identity(self._path) == self._identity:
            os.unlink(self._path)
        self._path = None
        self.socket.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _group_id(group: str | int) -> int:
    if isinstance(group, int):
        return group
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise UsageError(f"there is no group {group!r}") from error


def _remove_stale(path: str) -> None:
    """Make way: remove a socket that nobody serves; refuse to touch anything else."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise HostError(f"{path} exists and is not a socket", fix="choose another path or remove the file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # its queue of connections is full, so it is alive
        except OSError as error:
            raise HostError(f"cannot listen at {path}: {error.strerror or error}") from error
    raise AddressInUseError(f"another program is serving {path}")
