"""Disks of ours in real guests. Each test module says how many guests it boots; they run one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from virtio import vm
from virtio.devices.blk import Blk
from virtio.errors import VirtioError
from virtio.serve import serving
from virtio.vhost_user.server import Server
from virtio.vm import programs
from virtio.vm.choice import Kind

PROGRAMS: dict[Kind, str] = {"qemu": "qemu-system-x86_64", "uml": "linux.uml"}


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass
class Service:
    """A disk being served, the image behind it, and what the service had to complain about."""

    image: Path
    socket: str
    device: Blk
    server: Server
    reports: list[VirtioError] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Bytes that the image occupies on the host."""
        return self.image.stat().st_blocks * 512

    @property
    def connections(self) -> int:
        return self.server.services[0].connections


ServeDisk = Callable[..., AbstractContextManager[Service]]
Boot = Callable[..., AbstractContextManager[vm.Guest]]


@pytest.fixture(scope="session")
def serve_disk(tmp_path_factory: pytest.TempPathFactory) -> ServeDisk:
    """``with serve_disk(SIZE, image=PATH, **options of the device) as service``. SIZE makes a new image."""

    @contextmanager
    def serve(size: int = 64 << 20, *, image: Path | None = None, **options: Any) -> Iterator[Service]:
        directory = tmp_path_factory.mktemp("disk")
        if image is None:
            image = directory / "disk.img"
            with image.open("wb") as file:
                file.truncate(size)
        socket = str(directory / "s")
        reports: list[VirtioError] = []
        with (
            Blk(image, **options) as device,
            serving(device, socket, on_report=lambda _, error: reports.append(error)) as server,
        ):
            yield Service(image, socket, device, server, reports)

    return serve


@pytest.fixture(scope="session")
def boot() -> Boot:
    """``with boot(kind, devices, **options of vm.Guest) as guest``; skips what is not installed."""

    @contextmanager
    def start(kind: Kind, devices: list[vm.Attached], **options: Any) -> Iterator[vm.Guest]:
        if programs.locate(PROGRAMS[kind]) is None:
            pytest.skip(f"{PROGRAMS[kind]} is not installed")
        with vm.Guest(kind, devices, **options) as guest:
            yield guest

    return start
