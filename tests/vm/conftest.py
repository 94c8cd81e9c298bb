from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtio.vm import programs


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def storage_daemon(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Serves an image by qemu-storage-daemon; gives the socket's path."""
    program = programs.locate("qemu-storage-daemon")
    if program is None:
        pytest.skip("qemu-storage-daemon is not installed")
    running: list[subprocess.Popen[bytes]] = []

    def serve(image: Path) -> str:
        socket = tmp_path / f"disk{len(running)}.sock"
        running.append(subprocess.Popen([
            program, "--blockdev", f"driver=file,node-name=disk,filename={image}", "--export",
            f"type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path={socket},writable=on,num-queues=2",
        ]))  # fmt: skip
        deadline = time.monotonic() + 10
        while not socket.exists():
            assert running[-1].poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return str(socket)

    yield serve
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path
