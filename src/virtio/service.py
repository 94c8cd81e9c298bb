"""`virtio.serve`: a device at an address, until told to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from virtio.errors import VirtioError
from virtio.vhost_user import systemd
from virtio.vhost_user.server import Server, Service

if TYPE_CHECKING:
    from virtio.device import Device

__all__ = ["run", "serve", "serving"]


def serve(
    device: Device,
    address: str | os.PathLike[str],
    *,
    mode: int | None = None,
    group: str | int | None = None,
    one_off: bool = False,
    poll_us: int | None = None,
    withhold: int | None = None,
    on_report: Callable[[Service, VirtioError], None] | None = None,
    on_listening: Callable[[Server], None] | None = None,
) -> None:
    """Serve ``device`` at ``address`` until SIGTERM, SIGINT or, with ``one_off``, the first front-end leaves.

    ``address``: a path to listen on (``vhost-user:PATH`` says the same), ``connect:PATH`` to connect to a
    front-end that listens, or ``fd:N``, an inherited socket, listening or connected. The other arguments are
    those of `Server.add`. ``on_listening`` is called once front-ends can connect; a service manager
    (``NOTIFY_SOCKET``) is told by itself. The first signal stops cleanly, the second at once.

    Raises UsageError, AddressInUseError or HostError if the address cannot be served.
    """
    with Server(on_report=on_report) as server, _signals_stop(server):
        server.add(
            device, address, mode=mode, group=group, one_off=one_off, poll_us=poll_us, withhold=withhold
        )
        run(server, on_listening)


def run(server: Server, on_listening: Callable[[Server], None] | None = None) -> None:
    """Start ``server``, tell the service manager and ``on_listening``, and return when it has ended."""
    if server.stopping:
        return
    server.start()
    systemd.notify("READY=1")
    if on_listening is not None:
        on_listening(server)
    server.wait()
    systemd.notify("STOPPING=1")


@contextmanager
def serving(
    device: Device,
    address: str | os.PathLike[str],
    *,
    mode: int | None = None,
    group: str | int | None = None,
    one_off: bool = False,
    poll_us: int | None = None,
    withhold: int | None = None,
    on_report: Callable[[Service, VirtioError], None] | None = None,
) -> Iterator[Server]:
    """Serve ``device`` at ``address`` in the background, as long as the ``with`` block lasts."""
    with Server(on_report=on_report) as server:
        server.add(
            device, address, mode=mode, group=group, one_off=one_off, poll_us=poll_us, withhold=withhold
        )
        server.start()
        yield server


@contextmanager
def _signals_stop(server: Server) -> Iterator[None]:
    """SIGTERM and SIGINT end the server; a second one ends the process. Only the main thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        server.request_stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
