"""A NIC's end of a switch in another program."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from virtio.errors import NetworkError, UsageError, VirtioError
from virtio.network.switch.fabric import EVERYTHING
from virtio.network.switch.pipe import PipeLink
from virtio.network.switch.protocol import Message, body, decode, encode, hello
from virtio.network.switch.server import SEND_BUFFER
from virtio.network.switch.settings import PortSettings

__all__ = ["SharedPort", "query"]

logger = logging.getLogger("virtio.network")

ANSWER_SECONDS = 5.0
RETRY_SECONDS = 0.5
LONGEST = 65536


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(ANSWER_SECONDS)
    try:
        sock.connect(path)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    except OSError as error:
        sock.close()
        raise NetworkError(
            f"no switch answers at {path}: {error.strerror or error}",
            fix=f"start one: virtio switch NAME --socket {path}",
        ) from error
    return sock


def _answer(sock: socket.socket, path: str) -> tuple[Message, bytes]:
    try:
        packet = sock.recv(LONGEST)
    except OSError as error:
        raise NetworkError(f"the switch at {path} does not answer: {error.strerror or error}") from error
    if not packet:
        raise NetworkError(f"the switch at {path} closed the connection")
    kind, text = decode(packet)
    if kind == Message.REFUSED:
        raise NetworkError(f"the switch at {path} refuses: {body(text).get('error')}")
    return kind, text


def join(path: str, settings: PortSettings) -> tuple[socket.socket, str]:
    """A connection on which frames may flow, and the port's name. Raises NetworkError."""
    sock = _connect(path)
    try:
        sock.sendall(hello(settings))
        kind, text = _answer(sock, path)
        if kind != Message.WELCOME:
            raise NetworkError(f"the switch at {path} answers {kind.name} to a HELLO")
        return sock, str(body(text).get("port"))
    except OSError as error:
        sock.close()
        raise NetworkError(f"the switch at {path} went away: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise


def query(path: str) -> dict[str, Any]:
    """What the switch at ``path`` is: ports, counters, addresses; see `protocol.describe`."""
    pieces: list[bytes] = []
    with _connect(path) as sock:
        try:
            sock.sendall(encode(Message.QUERY))
        except OSError as error:
            raise NetworkError(f"the switch at {path} went away: {error.strerror or error}") from error
        while True:
            kind, text = _answer(sock, path)
            if kind != Message.REPORT:
                raise NetworkError(f"the switch at {path} answers {kind.name} to a QUERY")
            if not text:
                return body(b"".join(pieces))
            pieces.append(text)


class SharedPort(PipeLink):
    """A port of the switch that another program serves at ``path``.

    While that program is gone there is no carrier, frames are dropped and counted, and it is tried again
    twice a second. NetworkError if it is not there, or refuses, at the beginning.
    """

    def __init__(self, path: str, settings: PortSettings | None = None) -> None:
        self.path = path
        self.settings = settings or PortSettings()
        sock, self.port_name = join(path, self.settings)
        # The number stays ours for good: a thread that sends while we connect anew cannot meet another file.
        self._fd = sock.detach()
        super().__init__(self._fd)
        self._up = True
        self._tell: Callable[[bool], None] | None = None
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._live, name="virtio-switch-port", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Its URL."""
        return f"switch:{self.path}?port={self.port_name}"

    @property
    def accepts(self) -> int:
        """All offloads, as those of any port of a switch."""
        return EVERYTHING

    @property
    def up(self) -> bool:
        """Whether the switch is there."""
        return self._up

    def on_carrier(self, tell: Callable[[bool], None] | None) -> None:
        """Have ``tell`` called when the switch goes, or comes back."""
        self._tell = tell

    def stats(self) -> dict[str, int]:
        """Frames ``sent``, ``received``, ``dropped`` for a slow switch, ``lost`` for a slow guest."""
        return self.counters()

    def close(self) -> None:
        """Leave the switch."""
        if self._closed:
            return
        if threading.current_thread() is self._thread:
            raise UsageError(f"{self.name} cannot be closed while it delivers a frame")
        self._closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        os.close(self._fd)

    def _live(self) -> None:
        while not self._closed:
            ended = self.run(self._wake)
            if ended == 0:
                return
            why = "sent what is no frame" if ended == -errno.EPROTO else "went away"
            logger.warning("the switch at %s %s", self.path, why)
            # Whatever stays of the old connection is of no use, and its end must be seen there.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._fd)) as old:
                old.shutdown(socket.SHUT_RDWR)
            self._set_carrier(False)
            if self._rejoin():
                self._set_carrier(True)

    def _rejoin(self) -> bool:
        """Try until the switch is back; False: the link was closed."""
        while not select.select([self._wake], [], [], RETRY_SECONDS)[0]:
            try:
                sock, self.port_name = join(self.path, self.settings)
            except VirtioError as error:
                logger.debug("%s", error)
                continue
            with sock:
                sock.setblocking(True)  # sending and receiving say themselves that they do not wait
                os.dup2(sock.fileno(), self._fd, inheritable=False)
            logger.warning("the switch at %s is back", self.path)
            return True
        return False

    def _set_carrier(self, up: bool) -> None:
        self._up = up
        if self._tell is not None:
            try:
                self._tell(up)
            except Exception:
                logger.exception("what was to be told of a carrier failed")
