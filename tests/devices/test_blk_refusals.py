"""Kernels and sandboxes that refuse io_uring, at the start or later: seccomp filters in other processes."""

from __future__ import annotations

import errno
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from virtio.devices.blk.aio import io_uring_problem

SECCOMP = {"x86_64": 317, "aarch64": 277}.get(platform.machine())

pytestmark = [
    pytest.mark.skipif(bool(io_uring_problem()), reason=io_uring_problem()),
    pytest.mark.skipif(SECCOMP is None, reason="the number of the system call seccomp is not known here"),
]

PRELUDE = f"""
import ctypes, errno, os, socket, struct, sys
from functools import cached_property
import virtio
from virtio.devices.blk import Blk, device as blk_device
from virtio.devices.blk.aio import io_uring_problem
from virtio.errors import VirtioError
from virtio.storage import Storage
from virtio.storage.file_backend import DirectBackend
from virtio.testing import loopback_socket

SETUP, ENTER = 425, 426  # io_uring_...

def refuse(call, error):
    \"\"\"From now on the system call fails so, in all threads.\"\"\"
    def step(code, yes, no, value):
        return struct.pack("@HBBI", code, yes, no, value)
    steps = step(0x20, 0, 0, 0) + step(0x15, 0, 1, call)
    steps += step(6, 0, 0, 0x50000 | error) + step(6, 0, 0, 0x7fff0000)
    program = ctypes.create_string_buffer(steps, len(steps))
    head = struct.pack("@HP", 4, ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    if libc.syscall({SECCOMP}, 1, 1, ctypes.create_string_buffer(head, len(head))) != 0:
        print("no seccomp:", os.strerror(ctypes.get_errno()))
        sys.exit(77)
"""


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([n]) * 4096 for n in range(64)))
    return path


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.ENOSYS, "has none"),
        (errno.EPERM, "the kernel refuses it"),
        (errno.ENOMEM, "memory"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_a_kernel_that_makes_no_ring(image: Path, error: int, words: str) -> None:
    printed = run(
        """
refuse(SETUP, int(sys.argv[2]))
print(io_uring_problem())
try:
    Blk(sys.argv[1], aio="io_uring")
except VirtioError as error:
    print(error.code)
with Blk(sys.argv[1]) as device, loopback_socket(device) as sock, virtio.drivers.Blk.connect(sock) as disk:
    disk.flush()
    print("threads:", device._executor.threads)
""",
        image,
        error,
    )
    assert words in printed
    assert "E-IO-URING" in printed
    assert "threads: 1" in printed


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EBUSY])
@pytest.mark.parametrize("before", [True, False])
def test_threads_do_what_cannot_be_submitted(image: Path, error: int, before: bool) -> None:
    printed = run(
        """
if sys.argv[3] == "True":
    refuse(ENTER, int(sys.argv[2]))
with (
    Blk(sys.argv[1], cache="none", aio="io_uring") as device,
    loopback_socket(device) as sock,
    virtio.drivers.Blk.connect(sock) as disk,
):
    disk.write(0, b"w" * 4096)
    if sys.argv[3] == "False":
        assert device._executor.threads == 0
        refuse(ENTER, int(sys.argv[2]))
    buffers = {}
    for number in range(48):
        buffer = disk.buffer(4096)
        buffers[disk.submit(0, number * 4096, buffer)] = buffer
    while buffers:
        for request in disk.wait():
            request.result()
            with buffers.pop(request) as buffer:
                number = request.offset // 4096
                assert bytes(buffer.view) == bytes([number or ord("w")]) * 4096
    disk.flush()
    print("threads:", device._executor.threads > 0)
    print("in flight:", sum(other.in_flight for other in device._executor.others))
""",
        image,
        error,
        before,
    )
    assert "threads: True" in printed
    assert "in flight: 0" in printed


def test_a_request_that_stays_in_the_kernel_is_abandoned() -> None:
    """Entering the kernel fails after one request is in it, so that not even its end can be seen."""
    printed = run(
        """
class Wire(Storage):
    fd = property(lambda self: end.fileno())
    backend = cached_property(lambda self: DirectBackend(end.fileno(), False, 512))

blk_device.DRAIN_SECONDS = blk_device.CLOSE_SECONDS = 0.1
end, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
reports = []
device = Blk(Wire(1 << 20), aio="io_uring")
with loopback_socket(device, reports=reports) as sock, virtio.drivers.Blk.connect(sock) as disk:
    buffer = disk.buffer(512)
    disk.submit(0, 0, buffer)
    assert disk.serial == ""  # answered behind that
    refuse(ENTER, errno.EPERM)
    far.send(b"x" * 512)
print([error.code for error in reports])
device.close()
""",
    )
    assert "E-DRAIN" in printed
    assert "hangs: requests to it do not end" in printed
