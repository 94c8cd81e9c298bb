"""Who looks after the connection of a ``stream:`` link: makes it, and makes it again."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from virtio.errors import VirtioError
from virtio.network.endpoint import Endpoint, bind, forget
from virtio.network.stream import StreamLink

__all__ = ["Connector", "Dialer", "Given", "Keeper", "Listener"]

log = logging.getLogger("virtio.network")

SEND_BUFFER = 1 << 20
"""Bytes, if the machine allows: a guest sends by the windowful, and what finds no room is lost."""

DRAIN_SECONDS = 0.2
"""How long what a peer sent before it hung up may take to be fetched."""


class Dialer(ABC):
    """Gets connected sockets, one after the other."""

    @abstractmethod
    def dial(self, pause: Callable[[int | None, float | None], bool]) -> socket.socket | None:
        """The next connection; None: not now, or the keeper was told to stop.

        ``pause(fd, seconds)`` waits until a descriptor (None: nothing) is readable or time is up (None:
        never), and is true if the keeper was told to stop.
        """

    def hung_up(self) -> None:  # noqa: B027 -- most have nothing to do then
        """The connection that `dial` gave is over."""

    @abstractmethod
    def close(self) -> None:
        """No more connections are wanted."""


class Connector(Dialer):
    """Connects to ``endpoint``; again after ``seconds`` when that fails or ends, 0: never again."""

    def __init__(self, endpoint: Endpoint, seconds: float, first: socket.socket | None = None) -> None:
        self._endpoint, self._seconds, self._first = endpoint, seconds, first
        self._fresh = True

    def dial(self, pause: Callable[[int | None, float | None], bool]) -> socket.socket | None:
        """Connect now the first time, later after the pause."""
        if self._first is not None:
            sock, self._first = self._first, None
            return sock
        if not self._fresh and pause(None, self._seconds or None):
            return None
        self._fresh = False
        sock = socket.socket(self._endpoint.family, socket.SOCK_STREAM)
        sock.settimeout(max(self._seconds, 1.0))
        try:
            sock.connect(self._endpoint.address)
        except OSError as error:
            log.debug("%s: %s", self._endpoint, error.strerror or error)
            sock.close()
            return None
        return sock

    def hung_up(self) -> None:
        """Pause before the next attempt."""
        self._fresh = False

    def close(self) -> None:
        """Drop a connection that was never used."""
        if self._first is not None:
            self._first.close()


class Listener(Dialer):
    """Accepts at ``endpoint``, one peer at a time; the next one waits until that is gone."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._socket = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            bind(self._socket, endpoint)
            self._socket.listen(1)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens; with port 0, the one it got."""
        name = self._socket.getsockname()
        return name if isinstance(name, str) else (str(name[0]), int(name[1]))

    def dial(self, pause: Callable[[int | None, float | None], bool]) -> socket.socket | None:
        """Wait for a peer."""
        if pause(self._socket.fileno(), None):
            return None
        try:
            return self._socket.accept()[0]
        except OSError:
            return None

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
        forget(self._endpoint)


class Given(Dialer):
    """One connection that is there already."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock

    def dial(self, pause: Callable[[int | None, float | None], bool]) -> socket.socket | None:
        """That connection the first time, later none."""
        sock, self._socket = self._socket, None
        if sock is None:
            pause(None, None)
        return sock

    def close(self) -> None:
        """Drop a connection that was never used."""
        if self._socket is not None:
            self._socket.close()


class Keeper:
    """A thread that keeps ``link`` connected by ``dialer``."""

    def __init__(self, link: StreamLink, dialer: Dialer) -> None:
        self._link, self._dialer = link, dialer
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="virtio-stream", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """End the connection and whatever makes new ones."""
        self._stopping = True
        os.eventfd_write(self._link.wake, 1)
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            sock = self._dial()
            if sock is not None:
                self._serve(sock)
                self._dialer.hung_up()
        self._dialer.close()

    def _dial(self) -> socket.socket | None:
        try:
            return self._dialer.dial(self._pause)
        except VirtioError as error:
            log.error("%s: %s", self._link.name, error.report())
            return None

    def _pause(self, fd: int | None, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._link.wake, select.POLLIN)
        if fd is not None:
            poll.register(fd, select.POLLIN)
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stopping:
            left = None if end is None else max(0.0, end - time.monotonic()) * 1000
            ready = dict(poll.poll(left))
            if self._link.wake in ready:
                self._woken()
            elif not ready or fd in ready:
                break
        return self._stopping

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._link.wake)

    def _serve(self, sock: socket.socket) -> None:
        """Use a connection until it ends."""
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif not self._link.apart and sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < SEND_BUFFER:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # TCP's grows by itself
        self._link.plug(sock.fileno())
        self._link.set_carrier(True)
        try:
            self._watch(sock)
            self._say(self._link.fault())
        finally:
            self._link.unplug()
            self._link.set_carrier(False)
            sock.close()

    def _watch(self, sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(self._link.wake, select.POLLIN)
        poll.register(sock, select.POLLRDHUP)
        left = False
        while not self._stopping and self._link.fault() is None:
            ready = dict(poll.poll())
            if self._link.wake in ready:
                self._woken()
            if ready.get(sock.fileno(), 0) & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
                self._drain()
                return
            left = self._link.push()
            poll.modify(sock, select.POLLRDHUP | (select.POLLOUT if left else 0))

    def _drain(self) -> None:
        """The peer is gone; what it sent before is still to be had."""
        poll = select.poll()
        poll.register(self._link.wake, select.POLLIN)
        end = time.monotonic() + DRAIN_SECONDS
        while not self._stopping and self._link.fault() is None and time.monotonic() < end:
            poll.poll(max(0.0, end - time.monotonic()) * 1000)
            self._woken()

    def _say(self, fault: Exception | None) -> None:
        if isinstance(fault, VirtioError):
            log.error("%s", fault.report())
        elif isinstance(fault, OSError) and fault.errno not in (errno.ECONNRESET, errno.EPIPE):
            log.warning("%s: %s", self._link.name, fault.strerror)
        elif not self._stopping:
            log.info("%s: the other end is gone", self._link.name)
