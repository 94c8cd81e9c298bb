"""Taps in a namespace of their own, with the kernel at the other end."""

import errno
import fcntl
import ipaddress
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from virtio.errors import (
    NetworkBusyError,
    NetworkExtraError,
    NetworkKindError,
    NetworkMissingError,
    NetworkPermissionError,
    NetworkUrlError,
)
from virtio.network import Link, open_link, tun
from virtio.network.interface import State, changes
from virtio.network.namespace import inside
from virtio.network.packet import Datagram, checksum, udp_frame
from virtio.network.tap import TapLink
from virtio.spec import net
from virtio.testing.wire import Wire, WireFrame

Opener = Callable[[str], Link]
OURS = bytes.fromhex("020000000001")
HOST, GUEST = "192.0.2.1", "192.0.2.2"
UDP_SEGMENT = 103


def arp(target_mac: bytes = b"\xff" * 6, operation: int = 1) -> bytes:
    """Who has the host's address? or: the guest's is here."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + OURS + socket.inet_aton(GUEST)
    return target_mac + OURS + b"\x08\x06" + body + bytes(6) + socket.inet_aton(HOST)


def meet(nic: Wire) -> bytes:
    """The host's MAC address; it knows ours then."""
    nic.send([arp()])
    while True:
        for frame in nic.wait():
            if frame.data[12:14] == b"\x08\x06" and frame.data[20:22] == b"\0\2":
                mac = frame.data[6:12]
                nic.send([arp(mac, 2)])
                return mac


def await_udp(nic: Wire, port: int, count: int = 1) -> list[WireFrame]:
    """What the host sent from this port; other traffic of its is passed over."""
    found: list[WireFrame] = []
    wanted = struct.pack("!H", port)
    while len(found) < count:
        found += [
            frame for frame in nic.wait() if (frame.data[23:24], frame.data[34:36]) == (b"\x11", wanted)
        ]
    return found


def echo(mac: bytes, number: int, size: int = 56) -> bytes:
    message = (
        struct.pack("!BBHHH", 8, 0, 0, 7, number) + bytes(range(256)) * (size // 256) + bytes(size % 256)
    )
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0)
    header += socket.inet_aton(GUEST) + socket.inet_aton(HOST)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return mac + OURS + b"\x08\x00" + header + message


def udp(mac: bytes, port: int, data: bytes) -> bytes:
    ours, theirs = ipaddress.IPv4Address(GUEST), ipaddress.IPv4Address(HOST)
    return udp_frame(Datagram(OURS, mac, ours, theirs, 1234, port, data))


@pytest.fixture
def nic(namespace: Any, opened: Opener) -> Wire:
    return Wire(opened(f"tap:t0?netns={namespace.path}&address={HOST}/24"))


def host_socket(namespace: Any) -> socket.socket:
    sock = inside(namespace.path, lambda: socket.socket(type=socket.SOCK_DGRAM))
    sock.bind((HOST, 0))
    sock.settimeout(10)
    return sock


def test_the_kernel_answers_pings(nic: Wire) -> None:
    mac = meet(nic)
    assert nic.send([echo(mac, number, size) for number, size in enumerate([56, 1400])], cut=33) == 2
    replies = []
    while len(replies) < 2:
        replies += [frame.data for frame in nic.wait() if frame.data[23:24] == b"\x01"]
    assert [reply[38:42] for reply in replies] == [b"\0\7\0\0", b"\0\7\0\1"]
    assert len(replies[1]) == 14 + 20 + 8 + 1400
    stats = nic.link.stats()
    assert stats["sent"] == 4
    assert stats["received"] >= 3
    assert stats["refused"] == stats["down"] == 0


def test_more_segments_than_the_kernel_is_handed_at_once(nic: Wire) -> None:
    mac = meet(nic)
    nic.send([echo(mac, 1, 1400)], cut=7)
    while not any(len(frame.data) == 14 + 20 + 8 + 1400 for frame in nic.wait()):
        pass


def test_checksums_are_left_undone_both_ways(nic: Wire, namespace: Any) -> None:
    mac = meet(nic)
    with host_socket(namespace) as sock:
        port = sock.getsockname()[1]
        frame = bytearray(udp(mac, port, b"unfinished"))
        pseudo = socket.inet_aton(GUEST) + socket.inet_aton(HOST) + struct.pack("!HH", 17, 18)
        frame[40:42] = struct.pack("!H", ~checksum(pseudo) & 0xFFFF)
        nic.send([WireFrame(bytes(frame), flags=1, csum_start=34, csum_offset=6)])
        assert sock.recvfrom(100)[0] == b"unfinished"
        assert nic.link.accepts & 1 << net.F_CSUM
        for features, flags in ((0, 0), (1 << net.F_GUEST_CSUM, 1), (0, 0)):
            nic.link.set_guest_offloads(features)
            sock.sendto(b"to the guest", (GUEST, 1234))
            (came,) = await_udp(nic, port)
            assert came.flags & 1 == flags
            assert came.data.endswith(b"to the guest")
            if flags:
                assert (came.csum_start, came.csum_offset) == (34, 6)


def test_segments_are_cut_by_whoever_must(nic: Wire, namespace: Any) -> None:
    if not nic.link.accepts >> net.F_HOST_USO & 1:
        pytest.skip("this kernel does not segment UDP")
    mac = meet(nic)
    uso = 1 << net.F_GUEST_CSUM | 1 << net.F_GUEST_USO4 | 1 << net.F_GUEST_USO6
    with host_socket(namespace) as sock:
        port = sock.getsockname()[1]
        sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
        nic.link.set_guest_offloads(0)
        sock.sendto(bytes(2500), (GUEST, 1234))
        assert [len(frame.data) - 42 for frame in await_udp(nic, port, 3)] == [1000, 1000, 500]
        nic.link.set_guest_offloads(uso)
        sock.sendto(bytes(2500), (GUEST, 1234))
        (came,) = await_udp(nic, port)
        assert (len(came.data) - 42, came.gso_type, came.gso_size) == (2500, 5, 1000)
        # And the other way: one frame of ours, three datagrams of the host.
        frame = bytearray(udp(mac, port, bytes(2500)))
        pseudo = socket.inet_aton(GUEST) + socket.inet_aton(HOST) + struct.pack("!HH", 17, 2508)
        frame[40:42] = struct.pack("!H", ~checksum(pseudo) & 0xFFFF)
        nic.send([WireFrame(bytes(frame), 0, 1, 5, 42, 1000, 34, 6)])
        assert [len(sock.recv(3000)) for _ in range(3)] == [1000, 1000, 500]


def test_headers_that_the_kernel_refuses_are_counted(nic: Wire) -> None:
    mac = meet(nic)
    ping = echo(mac, 1)
    bad = [
        WireFrame(ping, gso_type=9, gso_size=100),
        WireFrame(ping, flags=1, csum_start=60000, csum_offset=6),
    ]
    assert nic.send(bad) == 2
    assert nic.link.stats()["refused"] == 2
    assert nic.link.last_error == errno.EINVAL  # type: ignore[attr-defined]


def test_the_carrier_follows_the_interface(nic: Wire, namespace: Any) -> None:
    mac = meet(nic)
    news: list[bool] = []
    changed = threading.Semaphore(0)
    nic.link.on_carrier(lambda up: (news.append(up), changed.release())[1])
    namespace.run("ip link set t0 down")
    assert changed.acquire(timeout=10)
    assert not nic.link.up
    assert nic.send([echo(mac, 1)]) == 1
    assert nic.link.stats()["down"] == 1
    namespace.run("ip link set t0 up mtu 9000")
    assert changed.acquire(timeout=10)
    assert nic.link.up
    assert nic.link.mtu == 9000
    namespace.run("ip link del t0")
    assert changed.acquire(timeout=10)
    assert not nic.link.up
    assert nic.deliver() <= 0 or nic.deliver() <= 0
    nic.send([echo(mac, 1)])
    assert nic.link.stats()["down"] == 2
    assert news == [False, True, False]


def test_a_tap_that_is_gone_does_not_keep_its_reader_awake(nic: Wire, namespace: Any) -> None:
    namespace.run("ip link del t0")
    for _ in range(10):
        nic.deliver()
    poll = select.poll()
    poll.register(nic.link.receive_fd(0), select.POLLIN)
    assert poll.poll(50) == []


def test_several_queues(namespace: Any, opened: Opener) -> None:
    link = opened(f"tap:t0?netns={namespace.path}&address={HOST}/24&queues=3")
    assert isinstance(link, TapLink)
    nic = Wire(link, 3)
    mac = meet_any(nic)
    with host_socket(namespace) as sock:
        port = sock.getsockname()[1]
        for queue in range(3):
            nic.send([udp(mac, port, b"%d" % queue)], queue=queue)
        assert sorted(sock.recv(10) for _ in range(3)) == [b"0", b"1", b"2"]
        assert link.use_queues(1)
        for other in range(40):
            sock.sendto(b"x", (GUEST, 2000 + other))
        assert len(await_udp(nic, port, 40)) == 40
        assert nic.deliver(1) == nic.deliver(2) == -errno.EAGAIN
        assert link.use_queues(3)
        assert not link.use_queues(4)  # follows them over its three
        for other in range(400):
            sock.sendto(b"x", (GUEST, 2000 + other))
        used = {queue for queue in range(3) if nic.deliver(queue, 1) > 0}
        assert len(used) > 1


def test_a_tap_that_is_gone_may_be_told_anything(namespace: Any, opened: Opener) -> None:
    link = opened(f"tap:t0?netns={namespace.path}&queues=2")
    namespace.run("ip link del t0")
    link.set_guest_offloads(1 << net.F_GUEST_CSUM)
    link.use_queues(1)
    Wire(link, 2)
    link.use_queues(2)


def meet_any(nic: Wire) -> bytes:
    """As `meet`, whichever queue the answer comes to."""
    nic.send([arp()])
    for _ in range(1000):
        for queue in range(3):
            nic.deliver(queue)
        for frame in nic.take():
            if frame.data[12:14] == b"\x08\x06" and frame.data[20:22] == b"\0\2":
                nic.send([arp(frame.data[6:12], 2)])
                return frame.data[6:12]
        threading.Event().wait(0.01)
    raise AssertionError("no answer")


def test_in_use_and_other_kinds(namespace: Any, opened: Opener) -> None:
    opened(f"tap:t0?netns={namespace.path}")
    with pytest.raises(NetworkBusyError, match="t0 is in use"):
        open_link(f"tap:t0?netns={namespace.path}")
    with pytest.raises(NetworkKindError, match="several queues"):
        open_link(f"tap:t0?netns={namespace.path}&queues=2")
    with pytest.raises(NetworkKindError, match="lo exists"):
        open_link(f"tap:lo?netns={namespace.path}")
    with pytest.raises(NetworkMissingError, match="no bridge br9"):
        open_link(f"tap:t1?netns={namespace.path}&bridge=br9")
    assert "t1" not in namespace.run("ip link")


def test_a_tap_that_stays(namespace: Any, opened: Opener) -> None:
    opened(f"tap:t0?netns={namespace.path}&persist&owner=nobody").close()
    assert "t0" in namespace.run("ip link")
    # Its owner may open it, with no privilege at all; nobody else's tap, and no new one.
    script = (
        "import os; from virtio.network import open_link, tap; from virtio.errors import NetworkError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "open_link('tap:t0').close()\n"
        "try: open_link('tap:t1')\n"
        "except NetworkError as error: print(error.code)\n"
    )
    command = ["nsenter", f"--net={namespace.path}", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "E-NET-PERMISSION\n", done.stderr
    opened(f"tap:t0?netns={namespace.path}&persist=off").close()
    assert "t0" not in namespace.run("ip link")


def test_a_port_of_a_bridge(namespace: Any, opened: Opener) -> None:
    namespace.run("ip link add br0 type bridge")
    namespace.run("ip link set br0 up")
    one, two = (Wire(opened(f"tap:t{i}?netns={namespace.path}&bridge=br0")) for i in range(2))
    assert "master br0" in namespace.run("ip link show t0")
    frame = b"\xff" * 6 + OURS + b"\x88\xb5" + b"over the bridge".ljust(46, b".")
    for _ in range(200):  # the bridge's ports come up in their own time
        one.send([frame])
        if frame in [came.data for came in two_of(two)]:
            return
    raise AssertionError("nothing came over the bridge")


def two_of(nic: Wire) -> list[WireFrame]:
    nic.deliver()
    threading.Event().wait(0.02)
    nic.deliver()
    return nic.take()


@pytest.mark.parametrize("mode", ["bridge", "private"])
def test_macvtap(namespace: Any, opened: Opener, mode: str) -> None:
    namespace.run("ip link add v0 type veth peer name v1")
    for name in ("v0", "v1"):
        namespace.run(f"ip link set {name} up")
    link = opened(f"macvtap:v0?mode={mode}&netns={namespace.path}&mac=02:00:00:00:00:09&queues=2")
    assert isinstance(link, TapLink)
    assert link.interface.mac == bytes.fromhex("020000000009")
    assert not link.use_queues(2)  # where a flow goes, no guest decides
    nic = Wire(link, 2)
    raw = inside(namespace.path, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    with raw:
        raw.bind(("v1", 0x88B5))
        raw.settimeout(10)
        nic.send([b"\xff" * 6 + link.interface.mac + b"\x88\xb5" + b"out".ljust(46, b".")])
        assert raw.recv(2000)[14:17] == b"out"
        raw.send(link.interface.mac + OURS + b"\x88\xb5" + b"in".ljust(46, b"."))
        found = b""
        for _ in range(500):
            for queue in range(2):
                nic.deliver(queue)
            found = b"".join(frame.data[14:16] for frame in nic.take() if frame.data[12:14] == b"\x88\xb5")
            if found:
                break
            threading.Event().wait(0.01)
        assert found == b"in"
    name = link.interface.name
    assert name in namespace.run("ip link")
    link.disconnect()
    link.close()
    assert name not in namespace.run("ip link")


def test_without_pyroute2(namespace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    with pytest.raises(NetworkExtraError) as caught:
        open_link(f"tap:t0?netns={namespace.path}&bridge=br0")
    assert "pyvirtio[tap]" in caught.value.fix
    open_link(f"tap:t0?netns={namespace.path}&up").close()


def test_no_device_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(tun, "TUN", tmp_path / "tun")
    with pytest.raises(NetworkMissingError, match="no taps"):
        open_link("tap:t0")


def test_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with pytest.raises(NetworkPermissionError, match="CAP_NET_ADMIN"):
        tun.attach(0, "t0", False)


@pytest.mark.parametrize(
    "url",
    ["tap:", "tap:sixteen-letters-", "tap:a b", "tap:a/b", "tap:t%d", "tap:t?queues=0", "tap:t?queues=x",
     "tap:t?address=192.0.2.1", "tap:t?address=nonsense/24", "tap:t?up=maybe", "tap:t?colour=red",
     "tap:t?owner=no-such-user-here", "macvtap:", "macvtap:v0?mode=odd", "macvtap:v0?mac=01:00:00:00:00:00"],
)  # fmt: skip
def test_what_makes_no_sense(url: str) -> None:
    if "owner" in url and (os.geteuid() or not os.path.exists("/dev/net/tun")):
        pytest.skip("the tap is made first")
    with pytest.raises(NetworkUrlError):
        open_link(url)


def test_a_namespace_that_is_none() -> None:
    with pytest.raises(NetworkMissingError, match="no network namespace"):
        open_link("tap:t0?netns=no-such-namespace")


def test_what_the_kernel_tells() -> None:
    body = struct.pack("=BxHiII", 0, 1, 7, 1, 0) + struct.pack("=HHI", 8, 4, 9000)
    message = struct.pack("=IHHII", 16 + len(body), 16, 0, 0, 0) + body
    assert list(changes(message)) == [State(7, True, True, 9000)]
    gone = struct.pack("=IHHII", 32, 17, 0, 0, 0) + struct.pack("=BxHiII", 0, 1, 7, 0, 0)
    assert list(changes(message + gone)) == [State(7, True, True, 9000), State(7, False, False, None)]
    for cut in range(len(message)):
        assert list(changes(message[:cut])) == []
    assert list(changes(struct.pack("=IHHII", 3, 16, 0, 0, 0) + body)) == []
    assert list(changes(message[:32] + bytes(8))) == [State(7, True, True, None)]
