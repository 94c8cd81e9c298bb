"""How each back-end is started, pinned to a core, and stopped."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import innermost, is_listening

HERE = Path(__file__).parent
BACKEND_CPU, GENERATOR_CPU = 0, 1
VIRTIO = [sys.executable, "-m", "virtio.cli"]
NULL = "null:1G"  # a disk that moves no data, so that the rings alone are measured


class Backend:
    """A running back-end: where it listens and which process it is."""

    def __init__(self, socket: str, process: subprocess.Popen[bytes]) -> None:
        self.socket = socket
        self.process = process
        self.pid = innermost(process.pid)

    def load(self, **settings: Any) -> dict[str, float]:
        """Put load on it from a process on the other core. See generator.py."""
        settings = {"cpu": GENERATOR_CPU % (os.cpu_count() or 1), "pid": self.pid, **settings}
        command = [sys.executable, str(HERE / "generator.py"), self.socket, json.dumps(settings)]
        result: dict[str, float] = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        )
        return result


def virtio_blk(storage: str, socket: str) -> list[str]:
    """The command line of ours; ``storage`` is a path or NULL."""
    return [*VIRTIO, "blk", "--blk-file", storage, "--socket-path", socket]


def storage_daemon(program: str, storage: str, socket: str) -> list[str]:
    """The command line of qemu-storage-daemon with the same disk, in its fastest form."""
    if storage == NULL:
        blockdev = f"driver=null-co,node-name=disk,size={1 << 30}"
    else:
        blockdev = f"driver=file,node-name=disk,filename={storage},aio=io_uring"
    export = (
        f"type=vhost-user-blk,id=export,node-name=disk,iothread=thread,writable=on,"
        f"addr.type=unix,addr.path={socket}"
    )
    return [
        *shlex.split(program), "--object", "iothread,id=thread", "--blockdev", blockdev, "--export", export
    ]  # fmt: skip


@contextmanager
def socket_path() -> Iterator[str]:
    """A path for a socket in a directory that goes away afterwards."""
    with tempfile.TemporaryDirectory(prefix="virtio-bench-") as folder:
        yield f"{folder}/disk.sock"


@contextmanager
def running(command: Sequence[str], socket: str, *, patience: float = 20.0) -> Iterator[Backend]:
    """Run ``command`` on the back-end's core, from when it listens on ``socket`` until the block ends."""
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(command, stdout=talk, stderr=talk, preexec_fn=_pin)
        try:
            deadline = time.monotonic() + patience
            while not is_listening(socket):
                if process.poll() is not None or time.monotonic() > deadline:
                    talk.seek(0)
                    text = talk.read().decode(errors="replace").strip()
                    raise SystemExit(f"{shlex.join(command)} does not listen on {socket}:\n{text}")
                time.sleep(0.002)
            yield Backend(socket, process)
        finally:
            _stop(process)


def _pin() -> None:
    os.sched_setaffinity(0, {BACKEND_CPU})


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
