"""A switch that several processes share: the protocol, slow, dead and hostile peers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtio.errors import AddressInUseError, NetworkError, NetworkUrlError
from virtio.network import open_link
from virtio.network.switch import PortSettings, SharedPort, Switch, SwitchServer, query
from virtio.network.switch.protocol import Message, encode, hello
from virtio.testing.wire import HEADER_FIELDS, Wire, put_frames

from .ethernet import BROADCAST, frame, station

Served = tuple[Switch, SwitchServer, str]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    switch, path = Switch("lan"), str(tmp_path / "s")
    server = SwitchServer(switch, path)
    yield switch, server, path
    server.close()
    assert switch.ports == []
    assert not os.path.exists(path)


def wait(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def raw_peer(path: str) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.settimeout(20)
    peer.connect(path)
    return peer


def join(path: str, **options: str) -> tuple[SharedPort, Wire]:
    link, sink = SharedPort(path, PortSettings.parse(options)), Wire()
    link.connect(sink)
    return link, sink


def test_frames_and_headers_both_ways(served: Served) -> None:
    switch, _, path = served
    a, at_a = join(path, port="a", vlan="10")
    b, at_b = join(path, vlan="10")
    c, at_c = join(path, vlan="20")
    wait(lambda: len(switch.ports) == 3 and all(port.connected for port in switch.ports))
    header = {"flags": 1, "gso_type": 1, "hdr_len": 54, "gso_size": 1448, "csum_start": 34, "csum_offset": 16}
    frames = [frame(BROADCAST, station(1), payload=bytes([n]) * 700 * n) for n in range(90)]
    big = frame(BROADCAST, station(1), payload=bytes(65000))
    for part in range(0, 90, 5):
        put_frames(a, frames[part : part + 5], cut=(7, 40))
        wait(lambda part=part: len(at_b.frames) == part + 5)  # type: ignore[misc]
    put_frames(a, [big], header=header)
    wait(lambda: len(at_b.frames) == 91)
    assert [seen.data for seen in at_b.frames] == [*frames, big]
    assert at_b.frames[-1].header == {name: header[name] for name in HEADER_FIELDS}
    put_frames(b, [frame(station(1), station(2))])
    wait(lambda: at_a.frames)
    assert at_c.frames == []
    assert a.name == f"switch:{path}?port=a"
    assert a.up
    assert a.stats()["sent"] == 91
    found = query(path)
    assert [port["port"] for port in found["ports"]] == ["a", "port1", "port2"]
    assert found["ports"][2]["settings"] == {"vlan": "20"}
    assert {entry["address"] for entry in found["stations"]} == {"52:54:00:00:00:01", "52:54:00:00:00:02"}
    for link in (a, b, c):
        link.close()
    wait(lambda: not switch.ports)


def test_a_large_report(served: Served) -> None:
    switch, _, path = served
    switch.set_clock(100)
    for number in range(3000):
        switch.fdb.see(f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}", 1, 0, now=100)
    assert len(query(path)["stations"]) == len(switch.stations()) > 2900


def test_what_joins_is_told_why_not(served: Served) -> None:
    _, _, path = served
    kept, _ = join(path, port="a")
    with pytest.raises(NetworkError, match="refuses: switch lan has a port a already"):
        SharedPort(path, PortSettings("a"))
    with pytest.raises(NetworkUrlError, match="uplink is for the program that serves"):
        open_link(f"switch:{path}?uplink=null:")
    with pytest.raises(AddressInUseError):
        SwitchServer(Switch(), path)
    with pytest.raises(NetworkError, match="no switch answers"):
        open_link(f"switch:{path}-not")
    kept.close()


def test_settings_that_a_socket_fixes(tmp_path: Path) -> None:
    switch, path = Switch("lan"), str(tmp_path / "s")
    server = SwitchServer(switch, path, fixed=PortSettings(vlan=10, isolated=True))
    with pytest.raises(NetworkError, match=r"refuses: vlan: this socket's ports have fixed settings"):
        SharedPort(path, PortSettings(vlan=20))
    link = SharedPort(path, PortSettings("web"))
    assert switch.ports[0].settings == PortSettings("web", vlan=10, isolated=True)
    link.close()
    server.close()


@pytest.mark.parametrize(
    "packet",
    [
        b"x", b"\1\2{}", b"\x09\1", b"\1\1", b"\1\1[]", b"\1\1" + b"[" * 4000, b'\1\1{"vlan": 10}',
        b"\1\1\xff",
        b'\1\1{"colour": "red"}', b'\1\1{"vlan": "5000"}', b'\1\1{"port": "\\ud800\\n"}', b"\2\1" + bytes(80),
        b'\1\1{"vlan": "' + b"9" * 4000, encode(Message.WELCOME, b"{}"), b"\1\1" + b'{"port":' + b"x" * 9000,
    ],
)  # fmt: skip
def test_a_hello_that_is_none(served: Served, packet: bytes) -> None:
    switch, _, path = served
    with raw_peer(path) as peer:
        peer.send(packet)
        answer = peer.recv(65536)
        assert answer[:2] == bytes((Message.REFUSED, 1))
        assert json.loads(answer[2:])["error"]
        assert peer.recv(100) == b""
    assert switch.ports == []


def test_frames_that_are_none(served: Served) -> None:
    """What is malformed is dropped; what is no frame at all ends the connection; the others go on."""
    switch, _, path = served
    good, at_good = join(path)
    with raw_peer(path) as peer:
        peer.send(hello(PortSettings("bad")))
        assert peer.recv(1000)[0] == Message.WELCOME
        wait(lambda: len(switch.ports) == 2)
        body = frame(BROADCAST, station(9))
        for vnet in (
            b"\1\0" + bytes(4) + b"\xff\xff\x10\0",  # a checksum far outside
            b"\1\0" + bytes(4) + b"\x13\0\x01\0",  # and one just outside
            b"\0\1" + bytes(8),  # segments without a size
            b"\1\7" + bytes(8),  # of an unknown kind
            b"\0\x80" + bytes(8),
        ):
            peer.send(b"\2\1" + vnet + body)
        peer.send(b"\2\1")
        peer.send(b"\2\1" + bytes(10) + b"runt")
        peer.send(b"\2\1" + bytes(10) + bytes(66000))
        peer.send(b"\2\1" + bytes(10) + body)
        wait(lambda: at_good.frames)
        assert [seen.data for seen in at_good.frames] == [body]
        peer.send(b"\7\1")
        assert peer.recv(100) == b""
    wait(lambda: len(switch.ports) == 1)
    good.close()


def test_a_peer_that_does_not_read(served: Served) -> None:
    """Its frames are dropped and counted; everybody else gets theirs."""
    switch, _, path = served
    with raw_peer(path) as slow:
        slow.send(hello(PortSettings("slow")))
        slow.recv(1000)
        wait(lambda: switch.find("slow") is not None)
        sender, _ = switch.add(), None
        receiver, sink = switch.add(), Wire()
        receiver.connect(sink)
        port = switch.find("slow")
        assert port is not None
        wait(lambda: port.connected)
        assert put_frames(sender, [frame(BROADCAST, station(1), payload=bytes(1400))] * 50, times=100) == 5000
        assert len(sink.frames) == 5000
        stats = port.stats()
        assert stats["dropped_full"] > 0
        assert stats["out_frames"] + stats["dropped_full"] == 5000
    sender.close()
    receiver.close()
    wait(lambda: not switch.ports)


CHILD = """
import sys, time
from virtio.network.switch import SharedPort
from virtio.testing.wire import Wire, put_frames
link, sink = SharedPort(sys.argv[1]), Wire(room=0)
link.connect(sink)
raw = bytes(6 * [255]) + bytes.fromhex("525400000077") + bytes(50)
while True:
    put_frames(link, [raw] * 8)
    time.sleep(0.001)
"""


def test_a_process_that_is_killed(served: Served) -> None:
    """It is a port that went away: its station too, and nothing else."""
    switch, _, path = served
    link, sink = join(path)
    child = subprocess.Popen([sys.executable, "-c", CHILD, path])
    try:
        wait(lambda: len(sink.frames) > 50)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    wait(lambda: len(switch.ports) == 1)
    assert switch.stations() == []
    own, at_own = switch.add(), Wire()
    own.connect(at_own)
    put_frames(link, [frame(BROADCAST, station(1))])
    wait(lambda: at_own.frames)
    link.close()
    own.close()


def test_the_switch_goes_and_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    first = SwitchServer(Switch("lan"), path)
    link, sink = join(path, port="a")
    told: list[bool] = []
    link.on_carrier(told.append)
    first.close()
    wait(lambda: told == [False])
    assert not link.up
    assert put_frames(link, [frame(BROADCAST, station(1))]) == 1
    assert link.stats()["dropped"] == 1
    second = Switch("lan")
    server = SwitchServer(second, path)
    wait(lambda: told == [False, True])
    assert link.up
    wait(lambda: second.ports and second.ports[0].connected)
    other = second.add()
    put_frames(other, [frame(BROADCAST, station(2))])
    wait(lambda: sink.frames)
    link.disconnect()
    put_frames(other, [frame(BROADCAST, station(2))])
    wait(lambda: link.stats()["lost"] == 1)
    link.close()
    link.close()
    other.close()
    server.close()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as old:
        old.bind(path)
    SwitchServer(Switch(), path).close()
    (tmp_path / "s").write_text("somebody's file")
    with pytest.raises(Exception, match="cannot listen"):
        SwitchServer(Switch(), path)
    assert (tmp_path / "s").read_text() == "somebody's file"
