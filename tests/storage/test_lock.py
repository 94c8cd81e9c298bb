from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtio import storage
from virtio.errors import StorageLockedError

HOLD = """
import sys
from virtio import storage
disk = storage.FileStorage(sys.argv[1], read_only=sys.argv[2] == "r")
print("held", flush=True)
sys.stdin.read()
"""

Holder = Callable[[Path, str], int]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(65536))
    return path


@pytest.fixture
def hold() -> Iterator[Holder]:
    running: list[subprocess.Popen[str]] = []

    def start(path: Path, mode: str) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, path, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process.pid

    yield start
    for process in running:
        process.communicate("")


def test_a_writer_excludes_everyone_and_is_named(image: Path, hold: Holder) -> None:
    pid = hold(image, "w")
    for read_only in (False, True):
        with pytest.raises(StorageLockedError, match=rf"in use by python.* \(process {pid}\)"):
            storage.FileStorage(image, read_only=read_only)
    with storage.FileStorage(image, lock=False) as disk:
        assert disk.size == 65536


def test_readers_share(image: Path, hold: Holder) -> None:
    pid = hold(image, "r")
    with storage.FileStorage(image, read_only=True):
        pass
    with pytest.raises(StorageLockedError, match=str(pid)):
        storage.FileStorage(image)


def test_within_one_process_too(image: Path) -> None:
    with (
        storage.FileStorage(image),
        pytest.raises(StorageLockedError, match=str(os.getpid())),
    ):
        storage.FileStorage(image)
    with storage.FileStorage(image):
        pass  # closing has let go of it


@pytest.mark.parametrize(("kind", "reader_may"), [(fcntl.LOCK_SH, True), (fcntl.LOCK_EX, False)])
def test_whole_file_locks_of_others(image: Path, kind: int, reader_may: bool) -> None:
    """What lockf and Cloud Hypervisor do: one lock over everything."""
    with image.open("r+b") as other:
        command = fcntl.F_RDLCK if kind == fcntl.LOCK_SH else fcntl.F_WRLCK
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, storage.lock.FLOCK.pack(command, 0, 0, 0, 0))
        with pytest.raises(StorageLockedError):
            storage.FileStorage(image)
        if reader_may:
            storage.FileStorage(image, read_only=True).close()
        else:
            with pytest.raises(StorageLockedError):
                storage.FileStorage(image, read_only=True)


QEMU_IO = shutil.which("qemu-io")


@pytest.mark.peer
@pytest.mark.skipif(QEMU_IO is None, reason="needs qemu-io")
@pytest.mark.parametrize(
    ("ours_reads", "qemu_reads", "together"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_qemu_sees_our_locks(image: Path, ours_reads: bool, qemu_reads: bool, together: bool) -> None:
    options = ["-r"] if qemu_reads else []
    with storage.FileStorage(image, read_only=ours_reads):
        ran = subprocess.run(
            [str(QEMU_IO), "-f", "raw", *options, "-c", "read 0 512", image],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (ran.returncode == 0) == together, ran.stderr
    assert together or "lock" in ran.stderr


@pytest.mark.peer
@pytest.mark.skipif(QEMU_IO is None, reason="needs qemu-io")
@pytest.mark.parametrize("qemu_reads", [True, False])
def test_we_see_the_locks_of_qemu(image: Path, qemu_reads: bool) -> None:
    options = ["-r"] if qemu_reads else []
    process = subprocess.Popen(
        [str(QEMU_IO), "-f", "raw", *options, image],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("length\n")
        process.stdin.flush()
        while "64" not in process.stdout.readline():
            pass
        with pytest.raises(StorageLockedError, match=f"qemu-io \\(process {process.pid}\\)"):
            storage.FileStorage(image)
        if qemu_reads:
            storage.FileStorage(image, read_only=True).close()
        else:
            with pytest.raises(StorageLockedError, match="qemu-io"):
                storage.FileStorage(image, read_only=True)
    finally:
        process.communicate("quit\n")
