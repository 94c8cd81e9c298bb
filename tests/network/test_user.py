"""A network without privileges: passt, in its own namespace, between a guest and the host's loopback."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtio.errors import NetworkError, NetworkExtraError, NetworkUrlError
from virtio.network import Link, open_link
from virtio.network.keeper import Given, Keeper
from virtio.network.namespace import inside
from virtio.network.packet import checksum, parse_udp
from virtio.network.passt import PasstLink
from virtio.network.url import parse
from virtio.network.user import arguments, roomy_pair
from virtio.testing.wire import Wire

Opener = Callable[[str], Link]
OURS, ALL = bytes.fromhex("020000000001"), b"\xff" * 6
GUEST, GATEWAY = "192.0.2.2", "192.0.2.1"


@pytest.fixture
def passt(namespace: Any, tmp_path: Path) -> Path:
    """passt in the namespace, where there is one interface, with nothing behind it."""
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    if subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode:
        pytest.skip("passt needs a user namespace, and none may be made here")
    for command in (
        "ip link set lo up",
        "ip link add v0 type veth peer name v1",
        "ip link set v1 up",
        "ip link set v0 up",
        f"ip addr add {GUEST}/24 dev v0",
        f"ip route add default via {GATEWAY}",
    ):
        namespace.run(command)
    tmp_path.chmod(0o755)
    script = tmp_path / "passt"
    script.write_text(f'#!/bin/sh\nexec nsenter --net={namespace.path} passt "$@"\n')
    script.chmod(0o755)
    return script


def internet(protocol: int, body: bytes, target: str = GATEWAY, source: str = GUEST) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    pseudo = addresses + struct.pack("!HH", protocol, len(body))
    at = 16 if protocol == 6 else 6
    body = body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2 :]
    return ALL + OURS + b"\x08\x00" + header + body


def udp(port: int, data: bytes, *, source_port: int = 4000, **ends: str) -> bytes:
    return internet(17, struct.pack("!4H", source_port, port, 8 + len(data), 0) + data, **ends)


def tcp(ports: tuple[int, int], numbers: tuple[int, int], flags: int, data: bytes = b"") -> bytes:
    return internet(6, struct.pack("!HHIIBBHHH", *ports, *numbers, 0x50, flags, 65535, 0, 0) + data)


def await_tcp(nic: Wire, port: int, flags: int) -> tuple[int, int, int, bytes]:
    """Wait for a segment to a port of ours: source port, sequence number, acknowledged number, data."""
    while True:
        for frame in nic.wait():
            segment = frame.data[34 : 14 + struct.unpack_from("!H", frame.data, 16)[0]]  # without padding
            if frame.data[23:24] == b"\x06" and struct.unpack_from("!H", segment, 2)[0] == port:
                source, _, sequence, acknowledged, offset, got = struct.unpack_from("!HHIIBB", segment)
                if got & flags == flags:
                    return source, sequence, acknowledged, segment[(offset >> 4) * 4 :]


def wait_carrier(link: Link, up: bool) -> None:
    changed = threading.Event()
    link.on_carrier(lambda now: changed.set() if now is up else None)
    assert link.up is up or changed.wait(15)
    link.on_carrier(None)


def discover() -> bytes:
    request = struct.pack("!BBBBIHH", 1, 1, 6, 0, 77, 0, 0) + bytes(16) + OURS.ljust(16, b"\0") + bytes(192)
    request += b"\x63\x82\x53\x63" + bytes([53, 1, 1, 55, 3, 1, 3, 6, 255])
    return udp(67, request, source_port=68, source="0.0.0.0", target="255.255.255.255")


def test_a_guest_gets_an_address(passt: Path, opened: Opener) -> None:
    nic = Wire(opened(f"user:?passt={passt}&dns=192.0.2.53&mtu=9000"))
    wait_carrier(nic.link, True)
    assert nic.link.mtu == 9000
    nic.send([discover()])
    while (offer := next(filter(None, (parse_udp(frame.data) for frame in nic.wait())), None)) is None:
        pass
    assert (offer.source_port, offer.target_port) == (67, 68)
    assert offer.data[16:20] == socket.inet_aton(GUEST)
    options = offer.data[240:]
    assert bytes([3, 4, *socket.inet_aton(GATEWAY)]) in options
    assert bytes([6, 4, *socket.inet_aton("192.0.2.53")]) in options
    assert bytes([26, 2]) + struct.pack("!H", 9000) in options


def test_udp_reaches_the_hosts_loopback(passt: Path, namespace: Any, opened: Opener) -> None:
    nic = Wire(opened(f"user:?passt={passt}"))
    wait_carrier(nic.link, True)
    with inside(namespace.path, lambda: socket.socket(type=socket.SOCK_DGRAM)) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        nic.send([udp(server.getsockname()[1], b"to the host")])
        data, peer = server.recvfrom(100)
        assert data == b"to the host"
        server.sendto(b"to the guest", peer)
        while not any(frame.data[42:54] == b"to the guest" for frame in nic.wait()):
            pass


def test_tcp_reaches_the_hosts_loopback(passt: Path, namespace: Any, opened: Opener) -> None:
    nic = Wire(opened(f"user:?passt={passt}&allow={GATEWAY}"))
    wait_carrier(nic.link, True)
    with inside(namespace.path, lambda: socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(10)
        port = server.getsockname()[1]
        nic.send([tcp((5000, port), (100, 0), 0x02)])
        _, sequence, acknowledged, _ = await_tcp(nic, 5000, 0x12)
        assert acknowledged == 101
        nic.send([tcp((5000, port), (101, sequence + 1), 0x10)])
        nic.send([tcp((5000, port), (101, sequence + 1), 0x18, b"GET /")])
        peer, _ = server.accept()
        with peer:
            peer.settimeout(10)
            assert peer.recv(5, socket.MSG_WAITALL) == b"GET /"
            peer.sendall(b"200")
            while (got := await_tcp(nic, 5000, 0x10)[3]) == b"":
                pass
            assert got == b"200"
        # What is not on the list is not tried.
        nic.send([tcp((5001, port), (1, 0), 0x02).replace(socket.inet_aton(GATEWAY), b"\xc0\0\2\3")])
        assert nic.link.stats()["denied"] == 1


def test_passt_survives_the_end_of_a_connection(passt: Path, namespace: Any, opened: Opener) -> None:
    nic = Wire(opened(f"user:?passt={passt}"))
    wait_carrier(nic.link, True)
    with inside(namespace.path, lambda: socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        for ours in range(5000, 5100):
            nic.send([tcp((ours, port), (100, 0), 0x02)])
            _, sequence, _, _ = await_tcp(nic, ours, 0x12)
            nic.send([tcp((ours, port), (101, sequence + 1), 0x10)])
            server.accept()[0].close()
            _, end, _, _ = await_tcp(nic, ours, 0x11)
            nic.send([tcp((ours, port), (101, end), 0x11)])
            nic.send([tcp((ours, port), (102, end + 1), 0x10)] * 4)  # as to a FIN that came four times


def test_what_follows_the_end_of_a_connection_waits_for_passt() -> None:
    link, (ours, theirs) = PasstLink(), socket.socketpair()
    end, after, other = (tcp((port, 80), (1, 1), flags) for port, flags in ((1, 0x11), (1, 0x10), (2, 0x10)))
    with ours, theirs:
        ours.setblocking(False)
        link.plug(ours.fileno())
        wire = Wire(link)
        assert wire.send([after, after, end]) == 3
        assert wire.send([after]) == 0
        assert wire.send([other, other]) == 2
        theirs.recv(1 << 16)
        assert wire.send([after, after]) == 1
        theirs.recv(1 << 16)
        assert wire.send([tcp((1, 80), (1, 1), 0x02), after, after]) == 3  # the ports are used again
        link.disconnect()
        link.close()


def test_a_forwarded_port_reaches_in(passt: Path, namespace: Any, opened: Opener) -> None:
    nic = Wire(opened(f"user:?passt={passt}&forward=tcp:8080:80,udp:5353:53&allow=192.0.2.99"))
    wait_carrier(nic.link, True)
    nic.send([discover()])  # passt learns where the guest is
    nic.wait()
    with inside(namespace.path, lambda: socket.socket()) as client:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", 8080))
        source, sequence, _, _ = await_tcp(nic, 80, 0x02)
        nic.send([tcp((80, source), (500, sequence + 1), 0x12)])  # although no list allows it: it was asked
        client.settimeout(10)
        client.send(b"hello")
        while (got := await_tcp(nic, 80, 0x10)[3]) == b"":
            pass
        assert got == b"hello"
    with inside(namespace.path, lambda: socket.socket(type=socket.SOCK_DGRAM)) as client:
        client.sendto(b"query", ("127.0.0.1", 5353))
        while not any(
            frame.data[36:38] == b"\0\x35" and frame.data[42:47] == b"query" for frame in nic.wait()
        ):
            pass


def children() -> list[int]:
    """Processes that passt's wrapper became."""
    found = []
    for task in Path("/proc").glob("[0-9]*"):
        try:
            words = (task / "cmdline").read_bytes().split(b"\0")
            parent = int((task / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid() and b"--foreground" in words:
            found.append(int(task.name))
    return found


def test_passt_ends_and_comes_back_and_ends_with_us(passt: Path, opened: Opener) -> None:
    link = opened(f"user:?passt={passt}")
    nic = Wire(link)
    wait_carrier(link, True)
    (first,) = children()
    os.kill(first, signal.SIGKILL)
    wait_carrier(link, False)
    wait_carrier(link, True)
    (second,) = children()
    assert second != first
    nic.send([discover()])
    nic.wait()
    link.disconnect()
    link.close()
    assert children() == []
    assert not link.up


def test_passt_may_send_by_the_windowful() -> None:
    held = []
    for ends in (socket.socketpair(), roomy_pair()):
        count = 0
        for end in ends:
            end.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                count += ends[1].send(bytes(1518))
        held.append(count)
        for end in ends:
            end.close()
    most = int(Path("/proc/sys/net/core/wmem_max").read_text())
    default = int(Path("/proc/sys/net/core/wmem_default").read_text())
    if most == default and os.geteuid() != 0:
        pytest.skip("this machine lets no socket hold more than all do")
    assert held[1] > 1.5 * held[0]


def test_what_goes_to_passt_does_not_pile_up() -> None:
    ours, theirs = roomy_pair()
    with theirs:
        link = PasstLink()
        link.keep(Keeper(link, Given(ours)))
        wait_carrier(link, True)
        default = int(Path("/proc/sys/net/core/wmem_default").read_text())
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == default
        link.close()


def test_passt_says_why_it_cannot(passt: Path) -> None:
    with pytest.raises(NetworkError, match=r"passt ended with status 1: .*999\.0\.0\.1"):
        open_link(f"user:?passt={passt}&address=999.0.0.1")
    assert children() == []


def test_a_program_that_ends_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="it did not say why"):
        open_link(f"user:?passt={shutil.which('false')}")


def test_without_passt() -> None:
    with pytest.raises(NetworkExtraError) as caught:
        open_link("user:?passt=no-such-passt")
    assert "apt install passt" in caught.value.fix


def test_arguments() -> None:
    url = "user:?forward=tcp:8080:80+udp:0.0.0.0/53:5353&dns=192.0.2.53,2001:db8::53"
    url += "&address=192.0.2.9&host=off&ipv6=off"
    assert " ".join(arguments(parse(url))) == (
        "--foreground --tcp-ports 127.0.0.1/8080:80 --udp-ports 0.0.0.0/53:5353 --dns 192.0.2.53 "
        "--dns 2001:db8::53 --address 192.0.2.9 --no-map-gw --ipv4-only"
    )


@pytest.mark.parametrize(
    "options",
    [
        "forward=8080:80",
        "forward=tcp:0:80",
        "forward=tcp:80:65536",
        "forward=tcp:80",
        "dns=--help",
        "address=-1",
        "mtu=80",
        "ipv4=off&ipv6=off",
        "colour=red",
    ],
)
def test_options_that_make_no_sense(options: str) -> None:
    with pytest.raises(NetworkUrlError):
        open_link(f"user:?passt=true&{options}")


def test_nothing_but_options() -> None:
    with pytest.raises(NetworkUrlError, match="options only"):
        open_link("user:somebody?passt=true")
