"""A switch that other programs join through a unix socket."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import selectors
import socket
import stat
import threading
import time
from collections import deque

from virtio.closing import Closing
from virtio.errors import AddressInUseError, HostError, NetworkUrlError, VirtioError
from virtio.network.switch.fabric import Port, Switch
from virtio.network.switch.pipe import Inlet, Outlet
from virtio.network.switch.protocol import LONGEST_HELLO, Message, decode, encode, read_hello, report
from virtio.network.switch.settings import PortSettings

__all__ = ["SwitchServer", "listen"]

logger = logging.getLogger("virtio.network")

MOST_SESSIONS = 1024
HELLO_SECONDS = 5.0
SEND_BUFFER = 1 << 20  # bytes wanted; the kernel gives what net.core.wmem_max allows


def listen(path: str) -> socket.socket:
    """A listening socket at ``path``; one that nobody answers on is replaced.

    AddressInUseError if another program serves it, HostError if it cannot be made.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if _is_socket(path):
            if _answers(path):
                raise AddressInUseError(f"another program is serving {path}")
            os.unlink(path)
        server.bind(path)
        server.listen(64)
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise HostError(f"cannot listen at {path}: {error.strerror or error}") from error
    except BaseException:
        server.close()
        raise
    return server


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
    return True


class Session:
    """One program at the other end; it has said nothing yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.deadline = time.monotonic() + HELLO_SECONDS
        self.port: Port | None = None
        self.unsent: deque[bytes] = deque()
        self.ending = False


class SwitchServer(Closing):
    """Serves ``switch`` at ``path`` on a thread of its own, until `close`.

    ``fixed`` are the settings of every port that joins there, so that those who may open the socket cannot
    choose; None: they choose themselves. Each connection is a port until it ends, however it ends.
    """

    def __init__(self, switch: Switch, path: str, *, fixed: PortSettings | None = None) -> None:
        self.switch = switch
        self.path = path
        self.fixed = fixed
        self._listener = listen(path)
        self._inode = os.stat(path).st_ino
        self._inlet = Inlet()
        self._sessions: dict[int, Session] = {}
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="virtio-switch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let all go, and remove the socket."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for session in list(self._sessions.values()):
            self._end(session)
        self._selector.close()
        self._listener.close()
        os.close(self._wake)
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    def _run(self) -> None:
        while not self._closed:
            waiting = any(session.port is None for session in self._sessions.values())
            for key, events in self._selector.select(1.0 if waiting else None):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd in self._sessions:
                    self._serve(self._sessions[key.fd], events)
            if waiting:
                self._end_the_silent()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                logger.warning("a program could not join switch %s: %s", self.switch.name, error.strerror)
                time.sleep(0.1)  # it stays in line, and would be reported without end
            return
        if len(self._sessions) >= MOST_SESSIONS:
            sock.close()
            return
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._sessions[sock.fileno()] = Session(sock)
        self._selector.register(sock, selectors.EVENT_READ)

    def _serve(self, session: Session, events: int) -> None:
        try:
            if session.unsent or session.ending:
                self._send(session)
            elif session.port is not None:
                self._forward(session, session.port)
            elif events & selectors.EVENT_READ:
                self._greet(session)
        except VirtioError as error:
            self._refuse(session, str(error))
        except OSError:
            self._end(session)
        except Exception:  # whatever one peer brought about, the others are served on
            logger.exception("a port of switch %s failed", self.switch.name)
            self._end(session)

    def _forward(self, session: Session, port: Port) -> None:
        moved = self._inlet.pump(session.socket.fileno(), port)
        if moved < 0 and moved != -errno.EAGAIN:
            if moved == -errno.EPROTO:
                logger.warning("port %s of switch %s sent what is no frame", port.port_name, self.switch.name)
            self._end(session)

    def _greet(self, session: Session) -> None:
        packet = session.socket.recv(LONGEST_HELLO)
        if not packet:
            self._end(session)
            return
        kind, body = decode(packet)
        if kind == Message.QUERY:
            session.unsent.extend(report(self.switch))
            session.ending = True
            self._send(session)
        elif kind == Message.HELLO:
            self._join(session, read_hello(body))
        else:
            raise NetworkUrlError(f"a program that joins a switch says HELLO, not {kind.name}")

    def _join(self, session: Session, wanted: PortSettings) -> None:
        session.port = port = self.switch.add(self._settings(wanted))
        welcome = {"port": port.port_name, "switch": self.switch.name}
        session.socket.send(encode(Message.WELCOME, json.dumps(welcome).encode()))
        port.connect(Outlet(session.socket.fileno()))
        logger.info("port %s joined switch %s", port.port_name, self.switch.name)

    def _settings(self, wanted: PortSettings) -> PortSettings:
        if self.fixed is None:
            return wanted
        options = wanted.options()
        name = options.pop("port", "")
        if options:
            raise NetworkUrlError(f"{', '.join(options)}: this socket's ports have fixed settings")
        return PortSettings.parse({**self.fixed.options(), "port": name})

    def _send(self, session: Session) -> None:
        """Send what waits, as far as it goes now; what is all sent is closed."""
        while session.unsent:
            try:
                session.socket.send(session.unsent[0])
            except BlockingIOError:
                self._selector.modify(session.socket, selectors.EVENT_WRITE)
                return
            session.unsent.popleft()
        self._end(session)

    def _refuse(self, session: Session, text: str) -> None:
        with contextlib.suppress(OSError):
            session.socket.send(encode(Message.REFUSED, json.dumps({"error": text}).encode()))
        self._end(session)

    def _end(self, session: Session) -> None:
        """Take a port out; its number is only closed when no thread can send to it."""
        if self._sessions.pop(session.socket.fileno(), None) is None:
            return
        self._selector.unregister(session.socket)
        if session.port is not None:
            session.port.close()
            logger.info("port %s left switch %s", session.port.port_name, self.switch.name)
        session.socket.close()

    def _end_the_silent(self) -> None:
        present = time.monotonic()
        for session in list(self._sessions.values()):
            if session.port is None and present > session.deadline:
                self._end(session)
