"""A guest of QEMU's whose NICs are at the other end of a stream: and a dgram: link. One guest."""

import select
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtio import vm
from virtio.network import Link, open_link
from virtio.network.packet import checksum
from virtio.testing.wire import Wire

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
]

OURS = bytes.fromhex("02000000000f")


class Station:
    """A host that answers ARP for every address, and pings, until it is closed."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.nic = Wire(link)
        self.stop, self._wake = False, socket.socketpair()
        self.pings = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.link.receive_fd(0), select.POLLIN)
        poll.register(self._wake[0], select.POLLIN)
        while not self.stop:
            poll.poll()
            while self.nic.deliver() > 0:
                self.nic.send([reply for came in self.nic.take() if (reply := self.reply(came.data))])

    def reply(self, frame: bytes) -> bytes:
        head = frame[6:12] + OURS + frame[12:14]
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[28:32] != frame[38:42]:
            return head + frame[14:20] + b"\0\2" + OURS + frame[38:42] + frame[22:32]
        if frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[34] == 8:
            self.pings += 1
            message = b"\0\0\0\0" + frame[38 : 14 + struct.unpack_from("!H", frame, 16)[0]]
            message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
            return head + frame[14:26] + frame[30:34] + frame[26:30] + message
        return b""

    def close(self) -> None:
        self.stop = True
        self._wake[1].send(b"x")
        self.thread.join()
        for end in self._wake:
            end.close()
        self.link.disconnect()
        self.link.close()


@pytest.fixture(scope="module")
def stations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Station]]]:
    folder = tmp_path_factory.mktemp("qemu")
    urls = [
        f"stream:{folder}/listens?server=on",
        f"stream:{folder}/connects",
        f"dgram:{folder}/theirs?local={folder}/ours",
    ]
    made = [Station(open_link(url)) for url in urls]
    yield folder, made
    for station in made:
        station.close()


@pytest.fixture(scope="module")
def guest(stations: tuple[Path, list[Station]]) -> Iterator[vm.Guest]:
    folder, _ = stations
    netdevs = [
        f"stream,id=n0,server=off,addr.type=unix,addr.path={folder}/listens",
        f"stream,id=n1,server=on,addr.type=unix,addr.path={folder}/connects",
        f"dgram,id=n2,local.type=unix,local.path={folder}/theirs,remote.type=unix,remote.path={folder}/ours",
    ]
    arguments = []
    for number, netdev in enumerate(netdevs):
        arguments += ["-netdev", netdev, "-device", f"virtio-net-pci,netdev=n{number},romfile="]
    with vm.Guest("qemu", [], arguments=arguments, modules=["virtio_pci", "virtio_net"]) as running:
        yield running


@pytest.mark.parametrize("number", range(3))
def test_a_guest_pings(guest: vm.Guest, stations: tuple[Path, list[Station]], number: int) -> None:
    guest.run(f"ip addr add 192.0.{number}.2/24 dev eth{number} && ip link set eth{number} up", check=True)
    done = guest.run(f"ping -c 3 -s 1400 -W 10 192.0.{number}.1", check=True)
    assert " 0% packet loss" in done.stdout
    station = stations[1][number]
    assert station.pings == 3
    assert station.link.up
    assert station.link.stats()["giants"] == station.link.stats()["runts"] == 0


def test_the_guests_end_is_a_carrier_change(guest: vm.Guest, stations: tuple[Path, list[Station]]) -> None:
    listening, connecting, _ = stations[1]
    changes = [threading.Event() for _ in range(2)]
    for station, changed in zip((listening, connecting), changes, strict=True):
        station.link.on_carrier(lambda up, changed=changed: None if up else changed.set())
    guest.kill()
    assert all(changed.wait(15) for changed in changes)
    assert not listening.link.up
