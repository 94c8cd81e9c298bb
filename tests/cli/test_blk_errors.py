"""What can go wrong with ``virtio blk``: each way has its message and its exit status, and no traceback."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from virtio.drivers import Blk
from virtio.errors import DeviceIOError, RefusedError
from virtio.vhost_user.frontend import Frontend, SharedRegion

Start = Callable[..., Any]

VFIO_USER_VERSION = struct.pack("<HHIIIHH", 1, 1, 22, 0, 0, 0, 1) + b"{}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


@pytest.fixture
def at(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def refused(*arguments: object, without: str = "", **options: Any) -> tuple[int, str]:
    """The status and words of a ``virtio`` that does not come up; root does it ``without`` a capability."""
    command = [sys.executable, "-m", "virtio.cli", *map(str, arguments)]
    if without and os.geteuid() == 0:
        command = ["setpriv", "--inh-caps", f"-{without}", "--bounding-set", f"-{without}", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


# The disk.


def test_a_disk_that_is_missing(tmp_path: Path, at: str) -> None:
    missing = tmp_path / "no.img"
    assert refused("blk", missing, "-s", at) == (
        4,
        f"virtio: {missing} does not exist [E-STORAGE-MISSING]\n"
        "  fix: check the path, or make an empty disk with --create 10G\n",
    )
    assert not os.path.exists(at)


def test_a_disk_that_is_a_directory(tmp_path: Path, at: str) -> None:
    status, said = refused("blk", tmp_path, "-s", at)
    assert status == 4
    assert f"{tmp_path} is a directory, not a disk image or a block device [E-STORAGE-KIND]" in said


def test_a_disk_that_is_empty(tmp_path: Path, at: str) -> None:
    empty = tmp_path / "empty.img"
    empty.touch()
    status, said = refused("blk", empty, "-s", at)
    assert status == 4
    assert f"{empty} has 0 bytes, less than a sector of 512 [E-STORAGE-SIZE]" in said


def test_a_disk_that_may_not_be_written(image: Path, at: str) -> None:
    image.chmod(0o444)
    status, said = refused("blk", image, "-s", at, without="dac_override")
    assert status == 4
    assert f"{image} cannot be written: Permission denied [E-STORAGE-PERMISSION]" in said
    assert "fix: grant access to the file, or serve it read-only (--read-only)" in said


def test_a_disk_that_is_locked(start: Start, image: Path, at: str) -> None:
    other = start("blk", image, "-s", at, said="others:")
    status, said = refused("blk", image, "-s", at + "2")
    assert status == 4
    assert f"{image} is in use by " in said
    assert f"(process {other.process.pid}) [E-STORAGE-LOCKED]" in said


# The flags.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frobnicate"], "No such option"),
        ([], "which disk is to be served? [E-USAGE]"),
        (["a", "--blk-file", "b"], "a and b are two disks"),
        (["a", "--num-queues", "0"], "0 is not in the range"),
        (["a", "--num-queues", "many"], "'many' is not a valid"),
        (["a", "--queue-size", "100"], "use a power of two"),
        (["a", "--logical-block-size", "1000"], "'1000' is not one of"),
        (["a", "--cache", "maybe"], "'maybe' is not one of"),
        (["a", "--socket-mode", "999"], "'999' is not a mode such as 660"),
        (["a", "-s", "/tmp/x", "--fd", "3"], "--socket-path and --fd say two things"),
        (["a", "--for", "bochs"], "'bochs' is not one of"),
        (["a", "--fd", "3", "--for", "qemu"], "fd:3 has no path to attach to"),
        (["floppy:a"], "[E-STORAGE-URL]"),
        (["mem:much"], "'much' is not a size"),
        (["mem:1M", "--serial", "a serial number of 30 letters"], "a serial number is up to 20 ASCII"),
        (["new.img", "--create", "100"], "100 is no size for a disk"),
    ],
)
def test_flags_that_make_no_sense(tmp_path: Path, arguments: list[str], words: str) -> None:
    status, said = refused("blk", *arguments, cwd=tmp_path)
    assert status == 2
    assert words in said
    assert list(tmp_path.iterdir()) == []


# The socket.


def test_a_socket_in_use(start: Start, image: Path, at: str) -> None:
    start("blk", image, "-s", at, said="others:")
    status, said = refused("blk", "mem:1M", "-s", at)
    assert status == 4
    assert said == (
        f"virtio: another program is serving {at} [E-IN-USE]\n"
        "  fix: stop the other program or choose another path\n"
    )
    Blk.connect(at).close()  # it was left alone


def test_a_socket_path_that_is_something_else(tmp_path: Path, image: Path) -> None:
    for path, kind in ((tmp_path, "directory"), (image, "file")):
        status, said = refused("blk", "mem:1M", "-s", path)
        assert status == 4, kind
        assert f"{path} exists and is not a socket [E-HOST]" in said
    assert image.stat().st_size == 64 << 20


def test_a_socket_path_that_cannot_be(tmp_path: Path) -> None:
    status, said = refused("blk", "mem:1M", "-s", tmp_path / ("long" * 30))
    assert status == 2
    assert "a socket's path takes 1 to 107 bytes [E-USAGE]" in said
    status, said = refused("blk", "mem:1M", "-s", tmp_path / "no" / "s")
    assert status == 4
    assert "cannot listen at" in said
    assert "No such file or directory [E-HOST]" in said
    status, said = refused("blk", "mem:1M", "-s", tmp_path / "s", "--socket-group", "nosuchgroup")
    assert (status, "there is no group 'nosuchgroup'" in said) == (2, True)


def test_a_directory_for_sockets_that_others_made(tmp_path: Path) -> None:
    (tmp_path / "virtio").mkdir()
    (tmp_path / "virtio").chmod(0o777)
    status, said = refused("blk", "mem:1M", env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert status == 4
    assert f"{tmp_path / 'virtio'} is open to other users [E-HOST]" in said


def test_descriptors_that_are_no_sockets(image: Path) -> None:
    status, said = refused("blk", "mem:1M", "--fd", "77")
    assert (status, "descriptor 77 is not open [E-USAGE]" in said) == (2, True)
    with image.open() as file:
        status, said = refused("blk", "mem:1M", "--fd", file.fileno(), pass_fds=[file.fileno()])
    assert (status, "is not a socket [E-USAGE]" in said) == (2, True)


# The front-end.


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (VFIO_USER_VERSION, "the other side speaks vfio-user, not vhost-user [E-PROTOCOL]"),
        (
            b"GET / HTTP/1.1\r\nHost: disk\r\n\r\n",
            "check that the program at the other end speaks vhost-user",
        ),
        (bytes(100), "check that the program at the other end speaks vhost-user"),
        (struct.pack("<III", 1, 1, 1 << 30), "announces 1073741824 bytes"),
        (struct.pack("<III", 1, 1, 0)[:7], "the connection ended in the middle of a message"),
    ],
)
def test_a_peer_that_speaks_something_else(start: Start, at: str, sent: bytes, words: str) -> None:
    service = start("blk", "mem:1M", "-s", at, said="others:")
    _send(at, sent)
    assert words in service.wait_said("E-PROTOCOL")
    with Blk.connect(at) as disk:  # the service goes on
        assert disk.read(0, 512) == bytes(512)
    assert service.stop() == 0
    once = start("blk", "mem:1M", "-s", at, "--one-off", said="others:")
    _send(at, sent)
    assert once.wait() == 3


def _send(at: str, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(at)
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):  # it closed with some of our bytes unread
            assert peer.recv(100) == b""


def test_a_front_end_that_shares_no_memory(start: Start, at: str) -> None:
    service = start("blk", "mem:1M", "-s", at, said="others:")
    with Frontend.connect(at) as front:
        front.set_owner()
        front.set_features(front.get_features())
        front.set_vring_num(0, 128)
        kick = os.eventfd(0)
        with pytest.raises(RefusedError):
            front.set_vring_kick(0, kick)
        os.close(kick)
    said = service.wait_said("E-SHM")
    assert "ring 0 is to start before the front-end shared any memory" in said
    assert "fix: start QEMU with -object memory-backend-memfd,id=mem,size=SIZE,share=on" in service.wait_said(
        "fix"
    )
    Blk.connect(at).close()


LOAD = """
import sys
from virtio.drivers import Blk
from virtio.spec import blk
disk = Blk.connect(sys.argv[1], num_queues=2)
buffers = [disk.buffer(1 << 16) for _ in range(32)]
for number, buffer in enumerate(buffers):
    disk.submit(blk.T_OUT, number << 16, buffer, queue=number % 2)
print("busy", flush=True)
while True:
    for queue in (0, 1):
        for request in disk.wait(queue=queue):
            disk.submit(blk.T_OUT, request.offset, buffers[request.offset >> 16], queue=queue)
"""


def test_a_front_end_whose_memory_is_a_private_copy(start: Start, at: str) -> None:
    """As QEMU with share=off: there are descriptors, and nothing of the guest behind them."""
    service = start("blk", "mem:1M", "-s", at, said="others:")
    with Frontend.connect(at) as front, Disconnected() as ring:
        front.set_owner()
        front.set_features(front.get_features())
        ring.set_up(front)
        ring.kick()
        said = service.wait_said("E-SHM")
    assert "the driver notifies its queues, but there is nothing in them" in said
    Blk.connect(at).close()


class Disconnected:
    """A ring in a memfd to which no driver ever writes."""

    SIZE = 1 << 20

    def __init__(self) -> None:
        self.memory, self.kick_fd = os.memfd_create("private"), os.eventfd(0)
        os.ftruncate(self.memory, self.SIZE)

    def set_up(self, front: Frontend) -> None:
        front.set_mem_table([SharedRegion(0, self.SIZE, 0, 0, self.memory)])
        front.set_vring_num(0, 128)
        front.set_vring_base(0, 0)
        front.set_vring_addr(0, 0, 0x3000, 0x2000)
        front.set_vring_kick(0, self.kick_fd)
        front.set_vring_enable(0, True)

    def kick(self) -> None:
        time.sleep(0.1)
        os.eventfd_write(self.kick_fd, 1)

    def __enter__(self) -> Disconnected:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self.memory)
        os.close(self.kick_fd)


def test_a_front_end_killed_in_the_middle_of_its_requests(start: Start, image: Path, at: str) -> None:
    service = start("blk", image, "-s", at, "--num-queues", 2, said="others:")
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", LOAD, at], stdout=subprocess.PIPE) as front:
            assert front.stdout is not None
            assert front.stdout.readline() == b"busy\n"
            time.sleep(0.05)
            front.send_signal(signal.SIGKILL)
        with Blk.connect(at) as disk:
            disk.write(32 << 20, b"n" * 4096)
            assert disk.read(32 << 20, 4096) == b"n" * 4096
    assert service.stop() == 0
    assert "E-" not in service.said


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(start: Start, small: Path, at: str) -> None:
    service = start("blk", small / "sparse.img", "--create", "64M", "-s", at, said="others:")
    with Blk.connect(at) as disk:
        disk.write(0, b"a" * 65536)
        with pytest.raises(DeviceIOError):
            disk.write(8 << 20, b"b" * (4 << 20))
        service.wait_said("failed: No space left on device")
        disk.write(0, b"c" * 65536)  # where there is space already
        assert disk.read(0, 65536) == b"c" * 65536
        disk.discard(8 << 20, 4 << 20)
        disk.write(16 << 20, b"d" * 65536)
    assert service.stop() == 0
    said = service.said.partition("others:")[2].splitlines()[1:]
    assert 1 <= len(said) <= 3  # and not once for each request


def test_nobody_listens_to_what_is_said(image: Path, at: str) -> None:
    """A full pipe is one thing, a closed one must not end the service."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "virtio.cli", "blk", str(image), "-s", at], stderr=writer
    )
    os.close(writer)
    try:
        assert os.read(reader, 4)
        os.close(reader)
        _send(at, bytes(100))
        with Blk.connect(at) as disk:
            assert disk.read(0, 512) == bytes(512)
    finally:
        process.terminate()
        assert process.wait(20) == 0
