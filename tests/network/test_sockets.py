"""stream: and dgram: links talk to each other, lose each other and find each other again."""

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from virtio.errors import (
    NetworkBusyError,
    NetworkError,
    NetworkMissingError,
    NetworkUrlError,
)
from virtio.network import Link, open_link
from virtio.network.stream import StreamLink
from virtio.testing.wire import Wire

FRAME = bytes(range(14)) + b"a frame" * 9
Opener = Callable[[str], Link]


def wait_carrier(link: Link, up: bool, timeout: float = 10) -> None:
    changed = threading.Event()
    link.on_carrier(lambda now: changed.set() if now is up else None)
    assert link.up is up or changed.wait(timeout), f"no carrier change to {up}"
    link.on_carrier(None)


def frames(count: int, size: int = 60) -> list[bytes]:
    return [struct.pack("!I", number).ljust(size, b"%d" % (number % 10)) for number in range(count)]


@pytest.mark.parametrize("target", ["{}/s", "127.0.0.1:{port}"])
def test_two_streams(opened: Opener, tmp_path: Path, target: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = target.format(tmp_path, port=port)
    server, client = opened(f"stream:{where}?server=on"), opened(f"stream:{where}")
    wait_carrier(server, True)
    wait_carrier(client, True)
    one, two = Wire(server), Wire(client)
    assert one.send([FRAME, FRAME[:14]]) == 2
    assert [frame.data for frame in two.wait(2)] == [FRAME, FRAME[:14]]
    assert two.send([FRAME], cut=5) == 1
    assert [frame.data for frame in one.wait()] == [FRAME]
    assert server.stats()["sent"] == 2
    assert server.stats()["sent_bytes"] == len(FRAME) + 14
    assert client.stats()["received"] == 2


def test_the_form_on_the_wire(opened: Opener, tmp_path: Path) -> None:
    link = opened(f"stream:{tmp_path}/s?server=on")
    nic = Wire(link)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/s")
        wait_carrier(link, True)
        nic.send([FRAME])
        assert peer.recv(1 << 16) == struct.pack("!I", len(FRAME)) + FRAME
        data = struct.pack("!I", len(FRAME)) + FRAME
        for byte in data:
            peer.send(bytes([byte]))
        assert [frame.data for frame in nic.wait()] == [FRAME]


def test_frames_that_go_apart() -> None:
    link = StreamLink("apart", apart=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a record for each call
    with ours, theirs:
        ours.setblocking(False)
        link.plug(ours.fileno())
        sent = [*frames(20), *frames(1, 1514)]
        assert Wire(link).send(sent) == len(sent)
        for frame in sent:
            assert theirs.recv(1 << 16) == struct.pack("!I", len(frame)) + frame
        link.disconnect()
        link.close()


def test_a_windowful_finds_room(opened: Opener) -> None:
    most, default = (int(Path(f"/proc/sys/net/core/wmem_{kind}").read_text()) for kind in ("max", "default"))
    if most < 4 * default:
        pytest.skip("this machine lets no socket hold more than all do")
    plain, peer = socket.socketpair()
    with plain, peer:
        plain.setblocking(False)
        held = 0
        with contextlib.suppress(BlockingIOError):
            while plain.send(bytes(1518)):
                held += 1
    ours, theirs = socket.socketpair()
    with theirs:
        link = opened(f"stream:?fd={ours.detach()}")
        wait_carrier(link, True)
        assert Wire(link).send(frames(4000, 1514)) > 4 * held


def test_a_peer_that_reads_late_loses_no_byte(opened: Opener, tmp_path: Path) -> None:
    link = opened(f"stream:{tmp_path}/s?server=on")
    nic = Wire(link)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/s")
        wait_carrier(link, True)
        sent = frames(4000, 1514)
        taken = nic.send(sent, cut=700)
        assert 0 < taken < 4000
        assert link.stats()["full"] == 1
        expected = b"".join(struct.pack("!I", 1514) + frame for frame in sent[:taken])
        got = b""
        peer.settimeout(10)
        while len(got) < len(expected):  # the last frame's end comes although nothing more is put
            got += peer.recv(1 << 16)
        assert got == expected
        assert nic.send([FRAME]) == 1
        assert peer.recv(1 << 16) == struct.pack("!I", len(FRAME)) + FRAME


def test_frames_wait_for_room(opened: Opener, tmp_path: Path) -> None:
    server, client = opened(f"stream:{tmp_path}/s?server=on"), opened(f"stream:{tmp_path}/s")
    wait_carrier(client, True)
    wait_carrier(server, True)
    one, two = Wire(server), Wire(client, room=3)
    one.send(frames(10))
    assert len(two.wait(3)) == 3
    two.room = 0
    assert two.deliver() == -errno.ENOSPC
    two.room = None
    assert two.deliver(budget=2) == 2
    assert two.deliver() == 5
    assert two.deliver() == -errno.EAGAIN
    assert [frame.data for frame in two.take()] == frames(10)[3:]


@pytest.mark.parametrize("pieces", [1, 64, 900])
def test_longest_frames(opened: Opener, tmp_path: Path, pieces: int) -> None:
    server, client = opened(f"stream:{tmp_path}/s?server=on"), opened(f"stream:{tmp_path}/s")
    wait_carrier(client, True)
    wait_carrier(server, True)
    one, two = Wire(server), Wire(client)
    longest = os.urandom(65550)
    assert one.send([longest, longest], cut=-(-65550 // pieces)) >= 1
    assert two.wait()[0].data == longest
    assert one.send([bytes(65551)]) == 1
    assert server.stats()["refused"] == 1


def test_a_peer_goes_and_comes(opened: Opener, tmp_path: Path) -> None:
    link = opened(f"stream:{tmp_path}/s?server=on")
    nic = Wire(link)
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"{tmp_path}/s")
            wait_carrier(link, True)
            peer.sendall(struct.pack("!I", len(FRAME)) + FRAME + b"\0\0")
            assert [frame.data for frame in nic.wait()] == [FRAME]
        wait_carrier(link, False)
        assert nic.send([FRAME]) == 1
    assert link.stats()["unreachable"] == 3


def test_a_client_finds_its_server_again(opened: Opener, tmp_path: Path) -> None:
    link = opened(f"stream:{tmp_path}/s?reconnect=1")
    nic = Wire(link)
    assert not link.up
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{tmp_path}/s")
            listener.listen()
            peer, _ = listener.accept()
            with peer:
                wait_carrier(link, True)
                nic.send([FRAME])
                assert peer.recv(4 + len(FRAME), socket.MSG_WAITALL)[4:] == FRAME
        (tmp_path / "s").unlink()
        wait_carrier(link, False)


def test_what_was_sent_before_the_end_comes(opened: Opener, tmp_path: Path) -> None:
    link = opened(f"stream:{tmp_path}/s?server=on")
    nic = Wire(link)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/s")
        peer.sendall((struct.pack("!I", len(FRAME)) + FRAME) * 5)
    assert len(nic.wait(5)) == 5


@pytest.mark.parametrize("length", [65551, 0x47455420, 0xFFFFFFFF])
def test_garbage_is_refused_by_name(
    opened: Opener, tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    link = opened(f"stream:{tmp_path}/s?server=on")
    nic = Wire(link)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/s")
        wait_carrier(link, True)
        good = struct.pack("!I", len(FRAME)) + FRAME
        peer.sendall(good + struct.pack("!I", length) + b"GET / HTTP/1.1")
        assert [frame.data for frame in nic.wait()] == [FRAME]
        assert nic.deliver() == -errno.EAGAIN
        peer.settimeout(10)
        assert peer.recv(1) == b""
    wait_carrier(link, False)
    assert "E-NET-FRAMING" in caplog.text
    assert f"{length} bytes" in caplog.text
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/s")
        wait_carrier(link, True)
        peer.sendall(good)
        assert [frame.data for frame in nic.wait()] == [FRAME]


def test_runts_are_counted(opened: Opener, tmp_path: Path) -> None:
    link = opened(f"stream:{tmp_path}/s?server=on")
    nic = Wire(link)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/s")
        wait_carrier(link, True)
        peer.sendall(bytes(4) * 100 + struct.pack("!I", 13) + bytes(13) + struct.pack("!I", 14) + bytes(14))
        assert [frame.data for frame in nic.wait()] == [bytes(14)]
    assert link.stats()["runts"] == 101


def test_a_connection_of_ours(opened: Opener) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        link = opened(f"stream:?fd={ours.detach()}")
        wait_carrier(link, True)
        Wire(link).send([FRAME])
        assert theirs.recv(1000)[4:] == FRAME
    wait_carrier(link, False)


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="No such file"):
        open_link(f"stream:{tmp_path}/s?reconnect=0")


@pytest.mark.parametrize("kind", ["stream:{}?server=on", "dgram:/nowhere?local={}"])
def test_an_address_in_use(opened: Opener, tmp_path: Path, kind: str) -> None:
    url = kind.format(tmp_path / "s")
    first = opened(url)
    with pytest.raises(NetworkBusyError, match="another program"):
        open_link(url)
    first.close()
    assert not (tmp_path / "s").exists()
    (tmp_path / "s").write_text("precious")
    with pytest.raises(NetworkBusyError, match="no socket"):
        open_link(url)
    assert (tmp_path / "s").read_text() == "precious"


def test_what_a_dead_server_left(opened: Opener, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/s")
    opened(f"stream:{tmp_path}/s?server=on")


def test_two_dgrams(opened: Opener, tmp_path: Path) -> None:
    one = Wire(opened(f"dgram:{tmp_path}/b?local={tmp_path}/a"))
    one.send([FRAME])
    assert one.link.stats()["unreachable"] == 1
    two = Wire(opened(f"dgram:{tmp_path}/a?local={tmp_path}/b"))
    assert one.send([FRAME, FRAME[:20]], cut=3) == 2
    assert [frame.data for frame in two.wait(2)] == [FRAME, FRAME[:20]]
    assert two.send([bytes(13), bytes(9000)]) == 2
    assert [len(frame.data) for frame in one.wait()] == [9000]
    assert one.link.stats()["runts"] == 1


def test_dgrams_over_inet(opened: Opener) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        port = peer.getsockname()[1]
        nic = Wire(opened(f"dgram:?remote=127.0.0.1:{port}&local=127.0.0.1:0"))
        nic.send([FRAME])
        data, source = peer.recvfrom(2000)
        assert data == FRAME
        peer.sendto(FRAME[::-1], source)
        assert nic.wait()[0].data == FRAME[::-1]


def test_a_full_dgram_socket_takes_no_more(opened: Opener, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(f"{tmp_path}/b")
        nic = Wire(opened(f"dgram:{tmp_path}/b?local={tmp_path}/a"))
        taken = nic.send(frames(3000))
        assert 0 < taken < 3000
        assert [peer.recv(100) for _ in range(taken)] == frames(3000)[:taken]
        assert nic.link.stats()["full"] == 1


def test_a_dgram_socket_of_ours(opened: Opener) -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    with theirs:
        nic = Wire(opened(f"dgram:?fd={ours.detach()}"))
        nic.send([FRAME])
        assert theirs.recv(1000) == FRAME
        theirs.send(b"")
        theirs.send(FRAME)
        assert nic.wait()[0].data == FRAME


@pytest.mark.parametrize(
    "url",
    [
        "stream:",
        "stream:127.0.0.1:port",
        "stream:127.0.0.1:65536",
        "stream:/s?server=perhaps",
        "stream:/s?server=on&reconnect=1",
        "stream:/s?reconnect=-1",
        "stream:/s?fd=0",
        "stream:?fd=99999",
        "stream:?fd=0",
        "stream:/" + "x" * 108,
        "dgram:/s",
        "dgram:/s?local=127.0.0.1:1",
        "dgram:/s?colour=red",
    ],
)
def test_what_makes_no_sense(url: str) -> None:
    with pytest.raises(NetworkUrlError):
        open_link(url)


def test_an_unknown_host() -> None:
    with pytest.raises(NetworkMissingError, match=r"no host"):
        open_link("stream:no host:1")
