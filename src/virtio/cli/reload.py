"""``virtio serve --reload``: the device anew whenever its file changes."""

from __future__ import annotations

import threading
from pathlib import Path

from virtio.cli.device_loader import Target
from virtio.cli.output import say
from virtio.device import Device
from virtio.errors import VirtioError
from virtio.vhost_user.server import Server, Service

__all__ = ["watch"]

LOOK_SECONDS = 0.3


def watch(target: Target, server: Server, service: Service) -> None:
    """Look at the target's file on a thread of its own until the server ends.

    A front-end that is connected is let go: it must come back to meet the new device. If the new code fails,
    the old device goes on.
    """
    file = target.file
    if file is not None:
        arguments = (target, file, server, service)
        threading.Thread(target=_watch, args=arguments, name="virtio-reload", daemon=True).start()


def _watch(target: Target, file: Path, server: Server, service: Service) -> None:
    seen = _state(file)
    while not server.wait(LOOK_SECONDS):
        now = _state(file)
        if now is not None and now != seen:
            seen = now
            try:
                device = target.load()
            except VirtioError as error:
                say(f"virtio: {error.report()}\n  the device from before goes on")
            else:
                server.call(lambda device=device: _replace(service, device))  # type: ignore[misc]
                say(f"{file} changed: {target.name} is new")


def _replace(service: Service, device: Device) -> None:
    old = service.device
    service.replace(device)
    if old is not None and old is not device:
        old.close()


def _state(file: Path) -> tuple[int, int, int] | None:
    """What tells that a file was written; None while an editor has it away."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
