"""A guest of QEMU's and the host, by way of ``tap:`` with several queues. One guest; root for the tap."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest
from outside import Nic, Outside, more, outside, serve_files, until

from virtio import vm
from virtio.devices.net import Net
from virtio.network import open_link
from virtio.network.tap import TapLink
from virtio.vhost_user.server import Server

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(
        os.geteuid() != 0
        or not os.path.exists("/dev/net/tun")
        or not all(map(shutil.which, ("qemu-system-x86_64", "unshare", "nsenter", "ip"))),
        reason="needs root, /dev/net/tun, QEMU, unshare, nsenter and ip",
    ),
]

PAIRS = 2
HERE, THERE = "203.0.113.1", "203.0.113.2"
FILE = random.Random(5).randbytes(8_000_001)
SUM = hashlib.sha256(FILE).hexdigest()
SOME = 1 << 16  # bytes


@dataclass
class Scene:
    """A guest with as many processors as its NIC has pairs."""

    outside: Outside
    guest: vm.Guest
    nic: Net
    link: TapLink
    port: int

    def fetch(self) -> str:
        """The sha256 of the file, as the guest got it."""
        done = self.guest.run(f"wget -q -O - http://{HERE}:{self.port}/file | sha256sum", check=True)
        return done.stdout[:64]

    def totals(self, kind: str) -> dict[str, int]:
        """The counters of all queues together."""
        queues = self.nic.nic.stats()[kind]
        return {name: sum(queue[name] for queue in queues) for name in queues[0]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("tap")
    with ExitStack() as exits:
        world = exits.enter_context(outside(folder))
        link = exits.enter_context(
            closing(open_link(f"tap:t0?netns={world.netns}&address={HERE}/24&queues={PAIRS}"))
        )
        assert isinstance(link, TapLink)
        nic = exits.enter_context(Net(link, num_queues=PAIRS))
        files = serve_files(world.socket(), {"/file": FILE}, (HERE, 0))
        exits.callback(files.close)
        server = exits.enter_context(Server())
        server.add(nic, str(folder / "s"))
        server.start()
        with vm.Guest("qemu", [Nic(str(folder / "s"), PAIRS)], cpus=PAIRS, files=["ethtool"]) as guest:
            guest.run(f"ip addr add {THERE}/24 dev eth0 && ip link set eth0 up", check=True)
            yield Scene(world, guest, nic, link, files.port)


def test_segments_cross_whole_in_both_directions(scene: Scene) -> None:
    assert scene.fetch() == SUM
    into = scene.totals("receive")
    assert into["segmented_bytes"] > SOME  # how much of it TCP sends so depends on the machine
    assert into["partial"] > 0
    assert into["frames"] < len(FILE) // 1448  # fewer than there would be segments of them
    scene.guest.run(f"wget -q -O /tmp/file http://{HERE}:{scene.port}/file", check=True)
    assert upload(scene) == SUM
    out = scene.totals("transmit")
    assert out["segmented_bytes"] > SOME
    assert out["partial"] > 0
    for counters in (into, out):
        assert not any(counters[reason] for reason in ("runt", "giant", "header", "offload"))
    assert scene.link.stats()["refused"] == 0


def upload(scene: Scene) -> str:
    """The sha256 of what came to the host when the guest sent its file."""
    with scene.outside.socket() as listening:
        listening.bind((HERE, 0))
        listening.listen()
        found = hashlib.sha256()

        def take() -> None:
            client, _ = listening.accept()
            with client:
                while data := client.recv(1 << 20):
                    found.update(data)

        taker = threading.Thread(target=take)
        taker.start()
        try:
            scene.guest.run(f"nc {HERE} {listening.getsockname()[1]} </tmp/file", check=True)
        finally:
            taker.join()
    return found.hexdigest()


def test_frames_that_the_driver_wants_finished_are(scene: Scene) -> None:
    """Segmentation and checksums done in the guest itself: nothing is left to be done, and it all arrives."""
    scene.guest.run("ethtool -K eth0 tso off gso off tx off", check=True)
    before = scene.totals("transmit")
    try:
        assert scene.fetch() == SUM
        after = scene.totals("transmit")
        assert after["frames"] > before["frames"]
        assert after["partial"] == before["partial"]
        assert after["segmented"] == before["segmented"]
    finally:
        scene.guest.run("ethtool -K eth0 tx on gso on tso on", check=True)


def test_the_tap_uses_as_many_queues_as_the_driver(scene: Scene) -> None:
    for wanted in (1, PAIRS, 1, PAIRS):
        scene.guest.run(f"ethtool -L eth0 combined {wanted}", check=True)
        assert scene.nic.multiqueue.choice.pairs == scene.link.used_queues == wanted
        assert scene.fetch() == SUM
    assert scene.nic.nic.stats()["receive"][1]["filtered"] == 0


def test_an_answer_comes_to_the_queue_that_asked(scene: Scene) -> None:
    scene.guest.run(f"ethtool -L eth0 combined {PAIRS}", check=True)
    for cpu in (*range(PAIRS), *range(PAIRS)):
        before = scene.nic.nic.stats()
        scene.guest.run(f"taskset {1 << cpu:x} ping -c 5 -i 0.05 {HERE}", check=True)
        until(lambda: more(scene.nic.nic.stats(), before, "receive")[cpu] >= 4)  # noqa: B023 -- called at once
        assert more(scene.nic.nic.stats(), before, "transmit")[cpu] >= 5


def test_the_host_reaches_the_guest(scene: Scene) -> None:
    scene.guest.run(
        "mkdir -p /tmp/www && ln -sf /tmp/file /tmp/www/file && httpd -p 80 -h /tmp/www", check=True
    )
    with scene.outside.socket(socket.SOCK_STREAM) as client:
        client.connect((THERE, 80))
        client.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert hashlib.sha256(answer.partition(b"\r\n\r\n")[2]).hexdigest() == SUM
