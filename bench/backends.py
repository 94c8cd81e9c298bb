"""How each back-end is started, pinned to its cores, and stopped."""

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

from processes import innermost, is_listening, pinned
from workloads import DIRECT, OURS, UNMAPPED, Side

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))
BACKEND_CORES = CORES[: max(1, len(CORES) // 2)]
GENERATOR_CORES = CORES[len(CORES) // 2 :]
VIRTIO = [sys.executable, "-m", "virtio.cli"]
NULL_BYTES = 1 << 30  # of the disk that moves no data, so that the rings alone are measured


class Backend:
    """A running back-end: where it listens and which process it is."""

    def __init__(self, socket: str, process: subprocess.Popen[bytes]) -> None:
        self.socket = socket
        self.process = process
        self.pid = innermost(process.pid)

    def load(self, *, cores: int = 1, **settings: Any) -> dict[str, float]:
        """Put load on it from a process on other cores. See generator.py."""
        settings = {"cpus": GENERATOR_CORES[:cores], "pid": self.pid, **settings}
        command = [sys.executable, str(HERE / "generator.py"), self.socket, json.dumps(settings)]
        result: dict[str, float] = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        )
        return result


def command_of(side: Side, disk: Path | None, socket: str, program: str | None) -> list[str]:
    """The command line of one side; ``disk`` is None for one that moves no data."""
    if side.program == OURS:
        return virtio_blk(_url(disk, side.mode), socket, *_cache(side.mode), *side.options)
    assert program is not None
    return storage_daemon(program, disk, socket, direct=side.mode == DIRECT)


def virtio_blk(url: str, socket: str, *options: str) -> list[str]:
    """The command line of ours."""
    return [*VIRTIO, "blk", "--blk-file", url, "--socket-path", socket, *options]


def _url(disk: Path | None, mode: str) -> str:
    if disk is None:
        return f"null:{NULL_BYTES}"
    return f"file:{disk}?map=off" if mode == UNMAPPED else str(disk)


def _cache(mode: str) -> list[str]:
    return ["--cache", "none"] if mode == DIRECT else []


def storage_daemon(program: str, disk: Path | None, socket: str, *, direct: bool = False) -> list[str]:
    """The command line of qemu-storage-daemon with the same disk, in its fastest form."""
    if disk is None:
        blockdev = f"driver=null-co,node-name=disk,size={NULL_BYTES}"
    else:
        blockdev = f"driver=file,node-name=disk,filename={disk},aio=io_uring"
        blockdev += ",cache.direct=on" if direct else ""
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
def running(
    command: Sequence[str], socket: str, *, cores: int | None = 1, patience: float = 20.0
) -> Iterator[Backend]:
    """Run ``command`` on the back-end's cores, from when it listens on ``socket`` until the block ends.

    ``cores`` of them; None: wherever the kernel likes.
    """
    where = CORES if cores is None else BACKEND_CORES[:cores]
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(command, stdout=talk, stderr=talk, preexec_fn=lambda: pinned(where))
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


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
