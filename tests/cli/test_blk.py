"""``virtio blk`` as a program: what it prints, where it listens, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from virtio.cli.app import root
from virtio.drivers import Blk
from virtio.errors import VirtioError

Start = Callable[..., Any]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(8 << 20)
    return path


@pytest.fixture
def at(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def blk(*arguments: object) -> Result:
    result = CliRunner().invoke(root, ["blk", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, (VirtioError, SystemExit)):
        raise result.exception
    return result


def virtio(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "virtio.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_disk_is_served_again_and_again(start: Start, image: Path, at: str) -> None:
    service = start("blk", image, "-s", at, "--serial", "S1", "--num-queues", 2, said="others:")
    assert f"disk {image} (8 MiB), at {at}" in service.said
    assert (
        f"-chardev socket,id=c0,path={at} -device vhost-user-blk-pci,chardev=c0,num-queues=2" in service.said
    )
    for turn in (1, 2):
        with Blk.connect(at, num_queues=2) as disk:
            assert disk.serial == "S1"
            assert len(disk.queues) == 2
            disk.write(4096 * turn, b"%d" % turn * 512)
            disk.flush()
    assert service.stop() == 0
    assert not os.path.exists(at)
    assert image.read_bytes()[4096:8704] == b"1" * 512 + bytes(3584) + b"2" * 512
    assert service.process.stdout.read() == ""


def test_the_flags_reach_the_device(start: Start, image: Path, at: str) -> None:
    start("blk", "--blk-file", image, "--socket-path", at, "--read-only", "--logical-block-size", 4096,
          "--cache", "writethrough", "--poll-us", 0, said="8 MiB, read-only")  # fmt: skip
    with Blk.connect(at) as disk:
        assert disk.read_only
        assert disk.block_size == 4096
        assert not disk.writeback


def test_options_by_environment(start: Start, image: Path, at: str) -> None:
    start("blk", env={**os.environ, "VIRTIO_BLK_BLK_FILE": str(image), "VIRTIO_BLK_SOCKET_PATH": at},
          said=f"at {at}")  # fmt: skip


def test_a_socket_of_our_own_choice(start: Start, image: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    service = start("blk", image, env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)}, said="others:")
    path = runtime / "virtio" / "blk-disk.img.sock"
    assert path.is_socket()
    assert str(path) in service.said
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_mode_and_one_off(start: Start, image: Path, at: str) -> None:
    service = start("blk", image, "-s", at, "--socket-mode", "660", "--one-off", said="others:")
    assert os.stat(at).st_mode & 0o777 == 0o660
    Blk.connect(at).close()
    assert service.wait() == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_a_front_end_connected(
    start: Start, image: Path, at: str, number: int, status: int
) -> None:
    service = start("blk", image, "-s", at, said="others:")
    with Blk.connect(at) as disk:
        disk.read(0, 512)
        began = time.monotonic()
        assert service.stop(number) == status
        assert time.monotonic() - began < 5
    assert not os.path.exists(at)


def test_an_inherited_listening_socket(start: Start, image: Path, at: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(at)
        listener.listen()
        service = start("blk", image, "--fd", listener.fileno(), pass_fds=[listener.fileno()], said="at fd:")
    for _ in range(2):
        with Blk.connect(at) as disk:
            assert disk.capacity == 8 << 20
    assert service.stop() == 0
    assert os.path.exists(at)  # not ours to remove


def test_an_inherited_connected_socket(start: Start, image: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        service = start("blk", image, "--fd", theirs.fileno(), pass_fds=[theirs.fileno()], said="at fd:")
    with Blk.connect(ours) as disk:
        disk.write(0, b"x" * 512)
    assert service.wait() == 0
    assert image.read_bytes()[:512] == b"x" * 512


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "virtio.cli", *sys.argv[2:]])
"""


def test_socket_activation_and_readiness(image: Path, at: str, tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        listener.bind(at)
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listener.fileno()), "blk", str(image)],
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            assert manager.recv(100) == b"READY=1"
            with Blk.connect(at) as disk:
                assert disk.capacity == 8 << 20
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_a_hangup_looks_at_the_size_again(start: Start, image: Path, at: str) -> None:
    service = start("blk", image, "-s", at, said="others:")
    sizes: list[int] = []
    with Blk.connect(at, on_resize=sizes.append) as disk:
        os.truncate(image, 16 << 20)
        service.process.send_signal(signal.SIGHUP)
        service.wait_said("the disk has 16 MiB\n")
        deadline = time.monotonic() + 10
        while disk.capacity != 16 << 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sizes == [16 << 20]
        disk.write((16 << 20) - 512, b"e" * 512)
        os.truncate(image, 100)
        service.process.send_signal(signal.SIGHUP)
        service.wait_said("[E-STORAGE-SIZE]")
    assert service.stop() == 0


def test_create(start: Start, tmp_path: Path, at: str) -> None:
    path = tmp_path / "new.img"
    start("blk", path, "--create", "1G", "-s", at, said="(1 GiB)").stop()
    assert path.stat().st_size == 1 << 30
    assert path.stat().st_blocks == 0
    start("blk", path, "--create", "2G", "-s", at, said="(1 GiB)")  # what exists is kept


def test_capabilities_whatever_else_is_said() -> None:
    done = virtio("blk", "--nonsense", "/no/such", "--print-capabilities", "--fd", "x")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"type": "block", "features": ["read-only", "blk-file"]}


def test_a_program_of_its_own() -> None:
    program = Path(sys.executable).parent / "virtio-blk"
    done = subprocess.run([program, "--print-capabilities"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["type"] == "block"


def test_lines_for_a_front_end_alone(image: Path, at: str) -> None:
    done = blk(image, "-s", at, "--for", "uml")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"virtio_uml.device={at}:2\n", "")
    assert not os.path.exists(at)


def test_it_is_small_and_sleeps(image: Path, at: str, start: Start) -> None:
    service = start("blk", image, "-s", at, said="others:")
    with Blk.connect(at) as disk:
        disk.read(0, 1 << 20)
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        assert int(status.partition("VmRSS:")[2].split()[0]) < 40 << 10
        time.sleep(0.3)
        before = _cpu_seconds(service)
        time.sleep(1)
        assert _cpu_seconds(service) - before <= 0.03


def _cpu_seconds(service: Any) -> float:
    stat = Path(f"/proc/{service.process.pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
