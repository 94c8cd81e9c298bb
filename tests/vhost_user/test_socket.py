"""Bytes and descriptors over a real socket pair."""

import os
import socket
from collections.abc import Iterator

import pytest

from virtio.vhost_user.framing import MAX_FDS, Outgoing, close_all
from virtio.vhost_user.socket import Channel

pytestmark = pytest.mark.usefixtures("no_fd_leaks")


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channels = Channel(left), Channel(right)
    yield channels
    for channel in channels:
        channel.close()


def test_descriptors_arrive_close_on_exec(pair: tuple[Channel, Channel]) -> None:
    left, right = pair
    reader, writer = os.pipe()
    left.send(Outgoing(b"hello", (writer,)))
    os.close(writer)
    received = right.receive(100)
    assert received is not None
    assert received.data == b"hello"
    (fd,) = received.fds
    assert not os.get_inheritable(fd)
    os.write(fd, b"x")
    assert os.read(reader, 1) == b"x"
    close_all([fd, reader])


def test_nothing_there_and_the_end(pair: tuple[Channel, Channel]) -> None:
    left, right = pair
    assert right.receive(10) is None
    left.close()
    received = right.receive(10)
    assert received == (b"", [])
    with pytest.raises(ConnectionError):
        right.send(Outgoing(b"x"))


def test_more_descriptors_than_may_come_are_all_seen(pair: tuple[Channel, Channel]) -> None:
    left, right = pair
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(MAX_FDS + 3)]
    left.send(Outgoing(b"x", tuple(fds)))
    close_all(fds)
    received = right.receive(1)
    assert received is not None
    assert len(received.fds) == MAX_FDS + 3
    close_all(received.fds)


def test_far_too_many_descriptors_are_cut_off_without_a_leak(pair: tuple[Channel, Channel]) -> None:
    left, right = pair
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    left.send(Outgoing(b"x", tuple(fds)))
    close_all(fds)
    received = right.receive(1)
    assert received is not None
    assert MAX_FDS < len(received.fds) < 100
    close_all(received.fds)


def test_what_does_not_fit_is_sent_later(pair: tuple[Channel, Channel]) -> None:
    """Messages and their descriptors stay in order, however full the socket is."""
    left, right = pair
    fd = os.open("/dev/null", os.O_RDONLY)
    for number in range(400):
        left.send(Outgoing(bytes([number % 256]) * 4000, (fd,)))
    os.close(fd)
    assert left.unsent
    got, fds = bytearray(), 0
    while len(got) < 400 * 4000:
        left.flush()
        while received := right.receive(4000):
            got += received.data
            fds += len(received.fds)
            close_all(received.fds)
    assert not left.unsent
    assert fds == 400
    assert bytes(got) == b"".join(bytes([number % 256]) * 4000 for number in range(400))


def test_closing_drops_what_waits(pair: tuple[Channel, Channel]) -> None:
    left, _ = pair
    fd = os.open("/dev/null", os.O_RDONLY)
    while not left.unsent:
        left.send(Outgoing(bytes(4000), (fd,)))
    left.send(Outgoing(bytes(4000), (fd,)))
    os.close(fd)
    left.close()
    assert left.fileno() == -1
