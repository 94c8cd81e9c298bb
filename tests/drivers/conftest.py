"""Disks to drive: in this process, and behind Debian's qemu-storage-daemon."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BENCH = HERE.parent.parent / "bench"


def _load(name: str, folder: Path = HERE) -> Any:
    """Import mode importlib keeps this folder off sys.path: bring the helper in under its own name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


loopback = _load("loopback")
processes, testpmd = _load("processes", BENCH), _load("testpmd", BENCH)


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """Drive a loopback disk: ``connect(transport, **options)``; closed at the end."""
    from virtio.drivers import Blk, BlkOptions

    disks = []

    def make(transport: Any, **options: Any) -> Blk:
        disks.append(Blk(transport, BlkOptions(**{"timeout": 5.0, **options})))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


@pytest.fixture(params=[False, True], ids=["split", "packed"])
def packed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def storage_daemon(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start qemu-storage-daemon on a new image: ``storage_daemon(num_queues=...)`` returns a `Daemon`."""
    program = shutil.which("qemu-storage-daemon")
    if program is None:
        pytest.skip("qemu-storage-daemon is not installed")
    daemons: list[Daemon] = []

    def start(**options: Any) -> Daemon:
        daemons.append(Daemon(program, tmp_path, **options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.stop()


class Daemon:
    """One qemu-storage-daemon exporting one raw image over vhost-user."""

    def __init__(
        self,
        program: str,
        folder: Path,
        *,
        size: int = 16 << 20,
        num_queues: int = 1,
        writable: bool = True,
        block_size: int = 512,
    ) -> None:
        self.image = folder / "disk.img"
        self.socket = str(folder / "disk.sock")
        self.qmp = str(folder / "qmp.sock")
        with self.image.open("wb") as image:
            image.truncate(size)
        export = (
            f"type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path={self.socket},"
            f"writable={'on' if writable else 'off'},num-queues={num_queues},logical-block-size={block_size}"
        )
        self.process = subprocess.Popen(
            [
                program,
                "--chardev",
                f"socket,id=qmp,path={self.qmp},server=on,wait=off",
                "--monitor",
                "chardev=qmp",
                "--blockdev",
                f"driver=file,node-name=file,filename={self.image},discard=unmap",
                "--blockdev",
                "driver=raw,node-name=disk,file=file,discard=unmap",
                "--export",
                export,
            ]
        )
        deadline = time.monotonic() + 10
        while not Path(self.socket).exists():
            assert self.process.poll() is None, "qemu-storage-daemon did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
