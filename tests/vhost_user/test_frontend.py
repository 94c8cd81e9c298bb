"""The front-end against back-ends that misbehave, and against qemu-storage-daemon."""

import contextlib
import os
import shutil
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtio.errors import (
    DeviceGoneError,
    DeviceTimeoutError,
    HostError,
    ProtocolError,
    RefusedError,
    UsageError,
)
from virtio.testing.memory import SharedMemory
from virtio.vhost_user.frontend import Frontend
from virtio.vhost_user.messages import REPLY, BackendRequest, FrontendRequest, ProtocolFeature

F = FrontendRequest
P = ProtocolFeature

Script = Callable[[socket.socket], None]


def reply(number: int, payload: bytes) -> bytes:
    return struct.pack("=III", number, REPLY | 1, len(payload)) + payload


def u64(number: int, value: int) -> bytes:
    return reply(number, struct.pack("=Q", value))


class Puppet:
    """A back-end that answers from a table, by request number; None: hangs up."""

    def __init__(self, answers: dict[int, list[bytes | None]]) -> None:
        self.answers = answers
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.seen: list[int] = []
        self.back: socket.socket | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with self.theirs:
            while len(header := self.read(12)) == 12:
                number, _, size = struct.unpack("=III", header)
                self.read(size)
                self.seen.append(number)
                queue = self.answers.get(number, [b""])
                answer = queue[0] if len(queue) == 1 else queue.pop(0)
                if answer is None:
                    return
                with contextlib.suppress(ConnectionError):
                    self.theirs.sendall(answer)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece, fds, _, _ = socket.recv_fds(self.theirs, size - len(data), 8)
            except ConnectionError:
                break
            for fd in fds:
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    self.back = socket.socket(fileno=fd)
                else:
                    os.close(fd)
            if not piece:
                break
            data += piece
        return data

    def close(self) -> None:
        self.ours.close()
        self.thread.join(5)
        if self.back is not None:
            self.back.close()


@pytest.fixture
def puppet() -> Iterator[Callable[..., Puppet]]:
    made: list[Puppet] = []

    def make(answers: dict[int, list[bytes | None]]) -> Puppet:
        made.append(Puppet(answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


PLAIN: dict[int, list[bytes | None]] = {F.GET_FEATURES: [u64(F.GET_FEATURES, 1 << 32)]}
MODERN: dict[int, list[bytes | None]] = {
    F.GET_FEATURES: [u64(F.GET_FEATURES, 1 << 32 | 1 << 30)],
    F.GET_PROTOCOL_FEATURES: [u64(F.GET_PROTOCOL_FEATURES, 1 << 9 | 1 << 20 | 1 << 15)],
}


def test_a_back_end_without_protocol_features(puppet: Callable[..., Puppet]) -> None:
    made = puppet(PLAIN)
    with Frontend.from_socket(made.ours) as front:
        assert front.protocol_features == 0
        front.set_vring_enable(0)
        front.set_features(1 << 32)
        front.get_features()
        assert made.seen == [F.SET_OWNER, F.GET_FEATURES, F.SET_FEATURES, F.GET_FEATURES]
        with pytest.raises(UsageError, match="CONFIG"):
            front.get_config(0, 4)


def test_memory_by_table_where_there_are_no_slots(puppet: Callable[..., Puppet]) -> None:
    made = puppet(PLAIN)
    with Frontend.from_socket(made.ours) as front, SharedMemory(4096) as memory:
        other = memory.region._replace(guest_address=4096, user_address=memory.user_address + 4096)
        front.add_mem_region(memory.region)
        front.add_mem_region(other)
        front.remove_mem_region(memory.region)
        assert front.regions == (other,)
        assert made.seen[2:] == [F.SET_MEM_TABLE, F.GET_FEATURES] * 3
        with pytest.raises(UsageError, match="is shared"):
            front.remove_mem_region(memory.region)
        with pytest.raises(UsageError, match="1 to 8"):
            front.set_mem_table([])


def test_only_what_both_know_is_negotiated(puppet: Callable[..., Puppet]) -> None:
    with Frontend.from_socket(puppet(MODERN).ours) as front:
        assert front.protocol_features == 1 << 9 | 1 << 15
        assert front.back_channel_fd is None


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (None, DeviceGoneError, "at GET_CONFIG"),
        (b"", DeviceTimeoutError, "did not answer GET_CONFIG within 0.2 seconds"),
        (reply(F.GET_CONFIG, b""), RefusedError, "refused to read"),
        (reply(F.GET_CONFIG, struct.pack("=III", 0, 4, 0) + bytes(4)), ProtocolError, "answered with 4"),
        (reply(F.GET_CONFIG, struct.pack("=III", 4, 8, 0) + bytes(8)), ProtocolError, "at 4"),
        (reply(F.GET_CONFIG, bytes(5)), ProtocolError, "configuration"),
        (u64(F.GET_FEATURES, 0), ProtocolError, "answered as request 1"),
        (reply(F.GET_CONFIG, b"")[:10], DeviceTimeoutError, "did not answer"),
        (b"HTTP/1.1 400 Bad Request", ProtocolError, "version"),
    ],
)
def test_wrong_answers(puppet: Callable[..., Puppet], answer: bytes | None, error: type, match: str) -> None:
    with Frontend.from_socket(puppet({**MODERN, F.GET_CONFIG: [answer]}).ours, timeout=0.2) as front:
        with pytest.raises(error, match=match):
            front.get_config(0, 8)
        if error not in (RefusedError,) and "answered with" not in match and match != "at 4":
            with pytest.raises(DeviceGoneError, match="is closed"):
                front.get_features()


def test_a_ring_position_for_another_ring(puppet: Callable[..., Puppet]) -> None:
    answers = {**PLAIN, F.GET_VRING_BASE: [reply(F.GET_VRING_BASE, struct.pack("=II", 1, 5))]}
    with (
        Frontend.from_socket(puppet(answers).ours) as front,
        pytest.raises(ProtocolError, match="for ring 1"),
    ):
        front.get_vring_base(0)


def test_whoever_hangs_up_at_once_is_no_back_end(puppet: Callable[..., Puppet]) -> None:
    with pytest.raises(DeviceGoneError, match="without a word") as gone:
        Frontend.from_socket(puppet({F.SET_OWNER: [None]}).ours)
    assert "vhost-user socket" in gone.value.fix


def test_whoever_says_nothing(puppet: Callable[..., Puppet]) -> None:
    with pytest.raises(DeviceTimeoutError) as late:
        Frontend.from_socket(puppet({F.GET_FEATURES: [b""]}).ours, timeout=0.1)
    assert "vhost-user socket" in late.value.fix


def test_a_vfio_user_server(puppet: Callable[..., Puppet]) -> None:
    error_reply = struct.pack("=HHIII", 3, 0, 16, 0x21, 22)
    with pytest.raises(ProtocolError, match="speaks vfio-user"):
        Frontend.from_socket(puppet({F.GET_FEATURES: [error_reply]}).ours)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot connect"):
        Frontend.connect(tmp_path / "none")


def test_the_back_channel_is_served_while_waiting(puppet: Callable[..., Puppet]) -> None:
    """A back-end may wait for our acknowledgement before it answers: that must not lock up."""
    answers = {
        F.GET_FEATURES: [u64(F.GET_FEATURES, 1 << 30)],
        F.GET_PROTOCOL_FEATURES: [u64(F.GET_PROTOCOL_FEATURES, 1 << 5 | 1 << 3 | 1 << 9)],
        F.SET_BACKEND_REQ_FD: [u64(F.SET_BACKEND_REQ_FD, 0)],
        F.SET_FEATURES: [b""],
    }
    made = puppet(answers)
    changes: list[int] = []
    with Frontend.from_socket(made.ours, on_config_change=lambda: changes.append(1), timeout=5) as front:
        assert made.back is not None
        back = made.back

        def ask() -> None:
            back.sendall(struct.pack("=III", BackendRequest.CONFIG_CHANGE_MSG, 1 | 8, 0))
            assert back.recv(100) == u64(BackendRequest.CONFIG_CHANGE_MSG, 0)
            back.sendall(struct.pack("=III", BackendRequest.SHMEM_UNMAP, 1 | 8, 0))
            assert back.recv(100) == u64(BackendRequest.SHMEM_UNMAP, 1)
            made.theirs.sendall(u64(F.SET_FEATURES, 0))

        asker = threading.Thread(target=ask)
        asker.start()
        front.set_features(0)
        asker.join()
        assert changes == [1]
        back.close()
        front.serve_back_channel(1)
        assert front.back_channel_fd is None


@pytest.fixture
def storage_daemon(tmp_path: Path) -> Iterator[Path]:
    program = shutil.which("qemu-storage-daemon")
    if program is None:
        pytest.skip("no qemu-storage-daemon")
    image, path = tmp_path / "disk", tmp_path / "q.sock"
    image.write_bytes(bytes(1 << 20))
    process = subprocess.Popen(
        [
            program,
            "--blockdev",
            f"driver=file,node-name=f,filename={image}",
            "--export",
            f"type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path={path},writable=on,num-queues=2",
        ]
    )
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield path
    process.terminate()
    process.wait(10)


@pytest.mark.peer
def test_qemu_storage_daemon(storage_daemon: Path) -> None:
    with Frontend.connect(storage_daemon) as front:
        features = front.get_features()
        assert features >> 32 & 1
        assert front.has(P.CONFIG)
        assert front.get_queue_num() >= 2
        assert struct.unpack("<Q", front.get_config(0, 8)) == (1 << 20 >> 9,)
        front.set_features(features & ~(1 << 33))
        with SharedMemory(1 << 20) as memory:
            front.add_mem_region(memory.region)
            front.set_vring_num(0, 64)
            front.set_vring_base(0, 0)
            front.set_vring_addr(0, memory.user(0), memory.user(0x1000), memory.user(0x2000))
            front.set_vring_enable(0)
            assert front.get_vring_base(0) == 0
            front.remove_mem_region(memory.region)
