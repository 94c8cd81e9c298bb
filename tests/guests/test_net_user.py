"""A guest of QEMU's whose NICs lead to the world by way of ``user:``. One guest, and no privileges."""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from outside import (
    FAR,
    GUEST,
    HOST,
    NEAR,
    UDHCPC,
    Nic,
    Outside,
    more,
    outside,
    serve_files,
    serve_names,
    until,
)

from virtio import vm
from virtio.devices.net import Net
from virtio.vhost_user.server import Server

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(
        not all(map(shutil.which, ("qemu-system-x86_64", "passt", "unshare", "nsenter", "ip"))),
        reason="needs QEMU, passt, unshare, nsenter and ip",
    ),
]

PAIRS = 2
FILE = random.Random(4).randbytes(3_000_001)
NAMES = {"files.test": NEAR, "elsewhere.test": FAR}
OFFLOADS = ("rx-checksumming", "tx-checksumming", "generic-segmentation-offload", "tcp-segmentation-offload",
            "tx-tcp6-segmentation", "generic-receive-offload")  # fmt: skip


@dataclass
class Scene:
    """A guest with two NICs: eth0 has several queues, eth1 may reach one name and no more."""

    outside: Outside
    guest: vm.Guest
    free: Net
    fenced: Net
    port: int

    def fetch(self, host: str, number: int = 0) -> str:
        """The sha256 of the file from ``host``, as the guest got it, or what went wrong."""
        done = self.guest.run(f"timeout 20 wget -q -O /tmp/got{number} http://{host}:{self.port}/file")
        return self.guest.run(f"sha256sum </tmp/got{number}").stdout[:64] if done.status == 0 else done.stderr


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("user")
    with ExitStack() as exits:
        world = exits.enter_context(outside(folder))
        files = serve_files(world.socket(), {"/file": FILE}, ("0.0.0.0", 0))
        exits.callback(files.close)
        exits.callback(serve_names(world.socket(socket.SOCK_DGRAM), NAMES, ("127.0.0.1", 53)).close)
        yield from _boot(folder, world, files.port, exits)


def _boot(folder: Path, world: Outside, port: int, exits: ExitStack) -> Iterator[Scene]:
    user = f"user:?passt={world.passt}&dns={HOST}&ipv6=off"
    free = exits.enter_context(Net(f"{user}&forward=tcp:8080:80", num_queues=PAIRS))
    fenced = exits.enter_context(Net(f"{user}&allow=files.test"))
    server = exits.enter_context(Server())
    for name, nic in (("free", free), ("fenced", fenced)):
        server.add(nic, str(folder / name))
    server.start()
    devices = [
        Nic(str(folder / "free"), PAIRS),
        Nic(str(folder / "fenced"), mac="52:54:00:12:34:57"),
    ]
    with vm.Guest("qemu", devices, cpus=PAIRS, files=["ethtool"]) as guest:
        guest.run(UDHCPC, check=True)
        yield Scene(world, guest, free, fenced, port)


@pytest.fixture
def first(scene: Scene) -> Iterator[Scene]:
    """The guest with an address on eth0."""
    yield from _with_address(scene, "eth0")


@pytest.fixture
def second(scene: Scene) -> Iterator[Scene]:
    """The guest with an address on eth1."""
    yield from _with_address(scene, "eth1")


def _with_address(scene: Scene, name: str) -> Iterator[Scene]:
    scene.guest.run(f"ip link set {name} up && udhcpc -i {name} -n -q -t 5 -T 2 -s /tmp/lease", check=True)
    yield scene
    scene.guest.run(f"ip addr flush dev {name}; ip link set {name} down", check=True)


def test_a_guest_gets_an_address_and_resolves_and_fetches(first: Scene) -> None:
    assert f"inet {GUEST}/24" in first.guest.run("ip addr show eth0").stdout
    assert first.guest.run("cat /etc/resolv.conf").stdout == f"nameserver {HOST}\n"
    assert f"Address: {NEAR}" in first.guest.run("nslookup -type=a files.test", check=True).stdout
    assert first.guest.run("nslookup -type=a nowhere.test").status != 0
    for host in (HOST, NEAR, FAR):
        assert first.fetch(host) == hashlib.sha256(FILE).hexdigest()
    stats = first.free.nic.stats()
    # In order, though the driver sends on both queues by turns: passt would send all again and again.
    assert 3 * len(FILE) < sum(pair["bytes"] for pair in stats["receive"]) < 6 * len(FILE)
    for pair in (*stats["receive"], *stats["transmit"]):
        assert not any(pair[reason] for reason in ("runt", "giant", "header", "offload"))


def test_a_forwarded_port_reaches_in(first: Scene) -> None:
    first.guest.run("mkdir -p /tmp/www && head -c 100000 /dev/urandom >/tmp/www/own", check=True)
    first.guest.run("httpd -p 80 -h /tmp/www", check=True)
    wanted = first.guest.run("sha256sum </tmp/www/own", check=True).stdout[:64]
    with first.outside.connect(8080) as client:
        client.sendall(b"GET /own HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert hashlib.sha256(body).hexdigest() == wanted


def test_a_guest_uses_all_its_queues(first: Scene) -> None:
    guest, nic = first.guest, first.free
    assert f"Combined:\t{PAIRS}\n" in guest.run("ethtool -l eth0", check=True).stdout.partition("Current")[0]
    for wanted in (1, PAIRS):
        guest.run(f"ethtool -L eth0 combined {wanted}", check=True)
        assert f"Combined:\t{wanted}\n" in guest.run("ethtool -l eth0").stdout.partition("Current")[2]
        assert nic.multiqueue.choice.pairs == wanted
    for cpu in range(PAIRS):  # each sends by a queue of its own, and is answered there
        before = nic.nic.stats()
        guest.run(f"taskset {1 << cpu:x} nslookup -type=a files.test", check=True)
        until(lambda: more(nic.nic.stats(), before, "receive")[cpu])  # noqa: B023 -- called at once
        assert more(nic.nic.stats(), before, "transmit")[cpu] > 0
    fetching = (
        f'wget -q -O /tmp/got{n} http://{HOST}:{first.port}/file & pids="$pids $!";' for n in range(3)
    )
    guest.run(f"{' '.join(fetching)} for pid in $pids; do wait $pid || exit 1; done", check=True)
    sums = guest.run("sha256sum /tmp/got[012]", check=True).stdout.split()[::2]
    assert sums == [hashlib.sha256(FILE).hexdigest()] * 3
    (attachment,) = nic.attachments
    assert all(vring.stats()["requests"] for vring in attachment.vrings[: 2 * PAIRS])


def test_a_guest_sees_the_offloads(scene: Scene) -> None:
    shown = scene.guest.run("ethtool -k eth0", check=True).stdout
    for name in OFFLOADS:
        assert f"{name}: on" in shown


def test_only_what_is_allowed_is_reached(second: Scene) -> None:
    link = second.fenced.link
    assert "REFUSED" in second.guest.run("nslookup -type=a elsewhere.test").stdout
    assert link.stats()["refused_queries"] >= 1
    assert second.guest.run(f"timeout 1 wget -q -O /tmp/no http://{NEAR}:{second.port}/file").status != 0
    assert link.stats()["denied"] > 0  # nobody has asked for its name yet
    assert f"Address: {NEAR}" in second.guest.run("nslookup -type=a files.test", check=True).stdout
    assert second.fetch(NEAR) == hashlib.sha256(FILE).hexdigest()
    denied = link.stats()["denied"]
    assert second.guest.run(f"timeout 1 wget -q -O /tmp/no http://{FAR}:{second.port}/file").status != 0
    until(lambda: link.stats()["denied"] > denied)
