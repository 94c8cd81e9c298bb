"""``virtio blk`` as a process of its own, to be interfered with and killed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from virtio.errors import HostError
from virtio.testing.cgroup import MemoryGroup

__all__ = ["bytes_by_calls", "served"]

PATIENCE = 30.0  # seconds until it listens, and until it has ended


@contextmanager
def served(
    disk: str, path: Path, *options: str, say: bool = True, group: MemoryGroup | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Serve ``disk`` (a path or URL), with little memory if a group is given; HostError if that fails."""
    process = _start([disk, "--socket-path", str(path), *options], say, group)
    try:
        _wait_listening(process, path)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bytes_by_calls(pid: int) -> tuple[int, int]:
    """Bytes that a process has read and written by system calls so far, not through mappings or io_uring."""
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["rchar"]), int(lines["wchar"])


def _start(arguments: Sequence[str], say: bool, group: MemoryGroup | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "virtio.cli", "blk", *arguments]
    return subprocess.Popen(
        command if group is None else group.inside(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if say else subprocess.DEVNULL,
    )


def _wait_listening(process: subprocess.Popen[bytes], path: Path) -> None:
    """The socket's file says little: it is there before it listens, and a killed service leaves it behind."""
    deadline = time.monotonic() + PATIENCE
    while not _accepts(path):
        if process.poll() is not None:
            raise HostError(f"virtio blk ended at once with status {process.returncode}")
        if time.monotonic() > deadline:
            raise HostError(f"virtio blk does not listen at {path}")
        time.sleep(0.005)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0
