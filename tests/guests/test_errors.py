"""What goes wrong under real guests, and what our program says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from virtio import vm
from virtio.errors import GuestError, HostError
from virtio.vm import qemu

Start = Callable[..., Any]

pytestmark = [pytest.mark.guest, pytest.mark.timeout(180)]

NOT_SHARED = {
    "no memory backend": ([], "before the front-end shared any memory"),
    "a private memfd": (
        [
            "-object",
            "memory-backend-memfd,id=private,size=256M,share=off",
            "-machine",
            "memory-backend=private",
        ],
        "the guest runs on a private copy",
    ),
}


@pytest.fixture
def at(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def guest(kind: vm.guest.Kind, at: str, **options: Any) -> vm.Guest:
    try:
        return vm.Guest(kind, [vm.Blk(at)], **options)
    except HostError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("how", NOT_SHARED)
def test_memory_that_qemu_does_not_share(
    start: Start, at: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU starts all the same; the guest's driver then waits for ever, and only the back-end can say why."""
    arguments, words = NOT_SHARED[how]
    service = start("blk", "mem:1M", "-s", at, said="others:")
    if not arguments:
        monkeypatch.setattr(qemu, "_machine", lambda setup, accelerator: ["-machine", "q35", "-m", "256M"])
    machine = guest("qemu", at, arguments=arguments, boot_timeout=None)
    booting = threading.Thread(target=_boot, args=(machine,))
    booting.start()
    try:
        said = service.wait_said("E-SHM", 90)
    finally:
        if machine.pid is not None:
            os.kill(machine.pid, signal.SIGKILL)
        booting.join()
    assert words in said
    assert "memory-backend-memfd,id=mem,size=SIZE,share=on" in service.wait_said("fix:")
    assert service.stop() == 0


def _boot(machine: vm.Guest) -> None:
    with suppress(GuestError), machine:
        pass


def test_a_guest_killed_in_the_middle_of_its_writes(start: Start, at: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    service = start("blk", image, "--create", "64M", "-s", at, said="others:")
    with guest("uml", at) as first:
        first.run("(while :; do dd if=/dev/urandom of=/dev/vda bs=64k count=512; done) >/dev/null 2>&1 &")
        deadline = time.monotonic() + 30
        while not image.stat().st_blocks and time.monotonic() < deadline:
            time.sleep(0.01)
        first.kill()
    assert image.stat().st_blocks
    with guest("uml", at) as second:
        second.run("echo next >/dev/vda && sync", check=True)
    assert service.stop() == 0
    assert "E-" not in service.said
    assert image.read_bytes()[:5] == b"next\n"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_host_disk_is_an_io_error_in_the_guest(start: Start, at: str, small: Path) -> None:
    service = start("blk", small / "sparse.img", "--create", "64M", "-s", at, said="others:")
    with guest("uml", at) as machine:
        filled = machine.run("dd if=/dev/zero of=/dev/vda bs=1M count=16 oflag=direct")
        assert filled.status != 0
        assert "Input/output error" in filled.stderr
        service.wait_said("failed: No space left on device")
        machine.run("echo still >/dev/vda && sync && head -c 6 /dev/vda", check=True)
    assert service.stop() == 0
    with (small / "sparse.img").open("rb") as file:
        assert file.read(6) == b"still\n"
