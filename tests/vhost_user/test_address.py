"""Addresses, listening sockets and their files, inherited descriptors."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio.errors import AddressInUseError, HostError, UsageError
from virtio.vhost_user.address import Address, How, Listener, adopt, connect, parse

pytestmark = pytest.mark.usefixtures("no_fd_leaks")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/tmp/a.sock", Address(How.LISTEN, "/tmp/a.sock")),
        ("a.sock", Address(How.LISTEN, "a.sock")),
        ("vhost-user:/tmp/a:b", Address(How.LISTEN, "/tmp/a:b")),
        ("./odd:name", Address(How.LISTEN, "./odd:name")),
        ("connect:q.sock", Address(How.CONNECT, "q.sock")),
        ("fd:3", Address(How.FD, "3")),
        (Path("/run/x"), Address(How.LISTEN, "/run/x")),
    ],
)
def test_parse(text: str, address: Address) -> None:
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "vhost-user:", "fd:", "fd:x", "fd:-1", "tcp:host", "vfio-user:/tmp/x", "/" + "x" * 107]
)
def test_addresses_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_listen_with_mode_and_remove_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = Listener.at(str(path), mode=0o660, group=os.getgid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert listener.accept() is None
    with connect(str(path), 1):
        accepted = listener.accept()
        assert accepted is not None
        accepted.close()
    listener.close()
    assert not path.exists()


def test_no_such_group(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no group"):
        Listener.at(str(tmp_path / "s"), group="no-such-group-here")
    assert not (tmp_path / "s").exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
        dead.listen()
    assert os.path.exists(path)
    Listener.at(path).close()


@pytest.mark.parametrize("backlog", [0, 5])
def test_a_living_server_is_left_alone(tmp_path: Path, backlog: int) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(path)
        other.listen(backlog)
        waiting = []
        if not backlog:
            for _ in range(3):  # fills the queue of connections
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.setblocking(False)
                sock.connect_ex(path)
                waiting.append(sock)
        with pytest.raises(AddressInUseError, match="another program"):
            Listener.at(path)
        assert os.path.exists(path)
        for sock in waiting:
            sock.close()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(HostError, match="not a socket"):
        Listener.at(str(path))
    assert path.read_text() == "precious"


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        Listener.at(str(tmp_path / "no" / "s"))


def test_a_successors_socket_is_not_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    first = Listener.at(path)
    os.unlink(path)
    second = Listener.at(path)
    first.close()
    assert os.path.exists(path)
    second.close()


def test_connect_says_why_not(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file") as missing:
        connect(str(tmp_path / "none"), 1)
    assert "start the program" in missing.value.fix
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    with pytest.raises(HostError, match="refused") as refused:
        connect(path, 1)
    assert "nobody listens" in refused.value.fix


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    yield left, right
    left.close()
    right.close()


def test_adopt_tells_listening_from_connected(
    tmp_path: Path, pair: tuple[socket.socket, socket.socket]
) -> None:
    sock, listening = adopt(os.dup(pair[0].fileno()))
    assert not listening
    sock.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        sock, listening = adopt(os.dup(server.fileno()))
        assert listening
        Listener(sock).close()
        assert (tmp_path / "s").exists()


def test_adopt_refuses_other_things() -> None:
    with pytest.raises(UsageError, match="not open"):
        adopt(1_000_000)
    fd = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(UsageError, match="not a socket"):
        adopt(fd)
    os.close(fd)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        pytest.raises(UsageError, match="unix stream"),
    ):
        adopt(datagrams.fileno())
