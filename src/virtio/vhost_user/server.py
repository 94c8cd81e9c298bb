"""Serves devices to front-ends: one control thread, any number of (device, address) pairs.

A service goes round this circle until the server stops (or, with ``one_off``, once)::

    waiting (listening, or about to connect) --a front-end is there--> serving --it left--> waiting

A front-end that breaks the protocol ends its own connection and nothing else.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from virtio.errors import HostError, UsageError, VirtioError
from virtio.vhost_user.address import Address, How, Listener, adopt, connect, parse
from virtio.vhost_user.loop import ControlLoop

if TYPE_CHECKING:
    from virtio.device import Attachment, Device
    from virtio.vhost_user.backend import BackendSession

__all__ = ["Server", "Service"]

RETRY_SECONDS = 1.0
"""Between attempts to reach a front-end that listens (``connect:``)."""


class Service:
    """One device at one address. Made by `Server.add`; its methods run on the control thread."""

    def __init__(
        self,
        loop: ControlLoop,
        device: Device | None,
        address: Address,
        *,
        attach: Callable[..., Attachment],
        one_off: bool,
        withhold: int | None,
        on_report: Callable[[Service, VirtioError], None],
        on_done: Callable[[Service], None],
    ) -> None:
        self.device = device
        """What is served; if None was added, to be set before the server starts."""
        self.address = address
        self.connections = 0
        """How many front-ends have been served so far, the present one included."""
        self._loop = loop
        self._attach = attach
        self.serves_one = one_off
        """Whether it ends when its first front-end leaves."""
        self._withhold = withhold
        self._on_report = on_report
        self._on_done = on_done
        self._listener: Listener | None = None
        self._connected: socket.socket | None = None
        self._session: BackendSession | None = None
        self._closed = False

    @property
    def finished(self) -> bool:
        """Whether it will not serve anybody any more."""
        return self._closed

    @property
    def busy(self) -> bool:
        """Whether a front-end is connected."""
        return self._session is not None

    def open(
        self, *, mode: int | None, group: str | int | None, connected: socket.socket | None = None
    ) -> None:
        """Take the socket. HostError or UsageError at once if that cannot be: a service fails early."""
        if connected is not None:
            self._take(connected)
        elif self.address.how is How.LISTEN:
            self._listener = Listener.at(self.address.target, mode=mode, group=group)
        elif self.address.how is How.FD:
            sock, listening = adopt(int(self.address.target))
            if listening:
                self._listener = Listener(sock)
            else:
                self._take(sock)
        else:
            self._connected = connect(self.address.target, timeout=5)

    def _take(self, sock: socket.socket) -> None:
        """A connection that was handed over: there will be no other."""
        self._connected = sock
        self.serves_one = True

    def begin(self) -> None:
        """Serve who is connected, or wait for somebody. UsageError if there is no device to serve."""
        if self.device is None:
            raise UsageError(f"there is no device to serve at {self.address}")
        sock, self._connected = self._connected, None
        if sock is not None:
            self._serve(sock)
        else:
            self._wait()

    def replace(self, device: Device) -> None:
        """Serve ``device`` from now on: the present front-end is let go, and finds it when it comes back."""
        self.device = device
        if self._session is not None:
            self._session.close()

    def close(self) -> None:
        """End the present connection and stop waiting for another. Idempotent."""
        self._closed = True
        if self._connected is not None:
            self._connected.close()
            self._connected = None
        if self._listener is not None:
            self._loop.forget(self._listener.socket.fileno())
            self._listener.close()
            self._listener = None
        if self._session is not None:
            self._session.close()

    def _wait(self) -> None:
        """Be ready for the next front-end."""
        if self._listener is not None:
            self._loop.on_readable(self._listener.socket.fileno(), self._accept)
        elif self.address.how is How.CONNECT:
            self._loop.call_later(RETRY_SECONDS, self._reconnect)

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            sock = self._listener.accept()
        except OSError as error:
            # Out of descriptors, say: come back later instead of being woken again at once.
            self._report(HostError(f"cannot accept a front-end: {error.strerror}"))
            self._loop.on_readable(self._listener.socket.fileno(), None)
            self._loop.call_later(RETRY_SECONDS, self._wait)
            return
        if sock is not None:
            # One front-end at a time: others wait in the socket's queue.
            self._loop.on_readable(self._listener.socket.fileno(), None)
            self._serve(sock)

    def _reconnect(self) -> None:
        if self._closed:
            return
        try:
            sock = connect(self.address.target, timeout=0)
        except HostError:
            self._wait()
        else:
            self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        from virtio.vhost_user.backend import BackendSession
        from virtio.vhost_user.control import UNASKED

        self.connections += 1
        try:
            self._session = BackendSession(
                self._loop,
                sock,
                lambda changed, fault: self._attach(self.device, on_config_change=changed, on_fault=fault),
                on_report=self._report,
                on_end=self._ended,
                withhold=UNASKED if self._withhold is None else self._withhold,
            )
        except Exception as error:
            self._report(_as_virtio_error(error))
            self._ended()

    def _report(self, error: VirtioError) -> None:
        self._on_report(self, error)

    def _ended(self) -> None:
        self._session = None
        if not (self._closed or self.serves_one):
            self._wait()
        elif not self._closed:
            self._on_done(self)


class Server:
    """Serves devices over vhost-user on a thread of its own.

    >>> with Server() as server:                                    # doctest: +SKIP
    ...     server.add(device, "/tmp/disk.sock")
    ...     server.wait()

    ``on_report(service, error)`` hears of every error of a front-end, on the control thread; without it they
    are logged as one-line warnings to ``virtio.vhost_user``.
    """

    def __init__(self, *, on_report: Callable[[Service, VirtioError], None] | None = None) -> None:
        self._loop = ControlLoop()
        self._services: list[Service] = []
        self._on_report = on_report or _log
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._finished = threading.Event()
        self._failure: BaseException | None = None

    @property
    def services(self) -> tuple[Service, ...]:
        """What was added, in that order."""
        return tuple(self._services)

    def add(
        self,
        device: Device | None,
        address: str | os.PathLike[str],
        *,
        mode: int | None = None,
        group: str | int | None = None,
        one_off: bool = False,
        withhold: int | None = None,
        poll_us: int | None = None,
        connected: socket.socket | None = None,
    ) -> Service:
        """Serve ``device`` at ``address``: a path, ``vhost-user:PATH``, ``connect:PATH`` or ``fd:N``.

        The socket listens when this returns; front-ends are served from `start` on. A device that takes its
        time to make may be None here and set as the service's ``device`` before `start`. ``mode`` and
        ``group`` are the socket file's. ``one_off``: end after the first front-end. ``withhold``: a mask of
        protocol features not to offer, by default INBAND_NOTIFICATIONS, which no front-end needs that has
        eventfds. ``poll_us``: how long a queue spins before it sleeps, microseconds. ``connected``: an open
        connection to use; the address is then a mere name.

        Raises UsageError, AddressInUseError or HostError. To be called before `start`.
        """
        if self._thread is not None:
            raise UsageError("devices are added before the server starts")
        service = Service(
            self._loop,
            device,
            Address(How.FD, os.fspath(address)) if connected is not None else parse(address),
            attach=_attacher(poll_us),
            one_off=one_off,
            withhold=withhold,
            on_report=self._on_report,
            on_done=self._done,
        )
        service.open(mode=mode, group=group, connected=connected)
        self._services.append(service)
        return service

    def start(self) -> None:
        """Begin to serve."""
        if self._thread is not None or self._stopping:
            raise UsageError("a server starts once")
        for service in self._services:
            service.begin()
        self._thread = threading.Thread(target=self._run, name="virtio-control", daemon=True)
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end, or ends by itself."""
        return self._stopping

    def call(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` run soon on the control thread. Signal handlers and other threads may ask."""
        self._loop.call(callback)

    def request_stop(self) -> None:
        """Ask the server to end, and return at once. Signal handlers and other threads may."""
        self._stopping = True
        self._loop.call(_nothing)

    def stop(self, timeout: float = 30.0) -> None:
        """End: drain the queues, remove the sockets. Idempotent.

        HostError if a queue's requests do not finish within ``timeout`` seconds.
        """
        if self._thread is None:
            if not self._stopping:
                self._stopping = True
                self._shut()
            return
        self.request_stop()
        if self._thread is not threading.current_thread() and not self.wait(timeout):
            raise HostError(
                f"the server did not end within {timeout:g} seconds: requests in flight do not finish",
                fix="find out what the device's storage or handler waits for",
            )

    def wait(self, timeout: float | None = None) -> bool:
        """Until the server has ended, at most ``timeout`` seconds; whether it has.

        Raises what the control thread died of, should it ever.
        """
        if not self._finished.wait(timeout):
            return False
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            # Not needed before a front-end comes, and slow: the socket listened before this was read.
            import virtio.vhost_user.backend  # noqa: F401

            while not self._stopping:
                self._loop.run_once()
        except BaseException as error:
            self._failure = error
        finally:
            self._shut()

    def _shut(self) -> None:
        try:
            for service in self._services:
                service.close()
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self._loop.close()
            self._finished.set()

    def _done(self, service: Service) -> None:
        """A service has nobody to wait for any more; with the last one the server ends."""
        service.close()
        if all(other.finished for other in self._services):
            self.request_stop()


def _attacher(poll_us: int | None) -> Callable[..., Attachment]:
    def attach(
        device: Device,
        *,
        on_config_change: Callable[[], None],
        on_fault: Callable[[int, VirtioError], None],
    ) -> Attachment:
        from virtio.device import Attachment

        return Attachment(device, on_config_change=on_config_change, on_fault=on_fault, poll_us=poll_us)

    return attach


def _as_virtio_error(error: Exception) -> VirtioError:
    if isinstance(error, VirtioError):
        return error
    return VirtioError(f"{type(error).__name__}: {error}")


def _log(service: Service, error: VirtioError) -> None:
    import logging

    fix = f" (fix: {error.fix})" if error.fix else ""
    logging.getLogger("virtio.vhost_user").warning("%s: %s [%s]%s", service.address, error, error.code, fix)


def _nothing() -> None:
    pass
