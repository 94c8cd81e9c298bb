"""Linux's own driver steers the NIC through the control queue, and sees what the NIC changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from virtio import vm
from virtio.devices.net import Net
from virtio.network import NullLink
from virtio.spec import net as spec
from virtio.testing.wire import Wire
from virtio.vhost_user.server import Server

pytestmark = pytest.mark.guest

MAC = "52:54:00:12:34:56"
OTHER = "52:54:00:00:00:0a"
RECEIVED = "cat /sys/class/net/eth0/statistics/rx_packets"


@dataclass(frozen=True)
class Nic:
    """A NIC behind a vhost-user socket."""

    socket: str
    pairs: int = 1
    modules: tuple[str, ...] = ("failover", "net_failover", "virtio_net", "8021q")
    in_uml: ClassVar[bool] = True

    def qemu(self, index: int, reconnect_option: str) -> list[str]:
        # QEMU 7.2 crashes without KVM when a vhost-user NIC of anybody's uses MSI-X: no vectors.
        several = ",vectors=0" + (",mq=on" if self.pairs > 1 else "")
        netdev = f"vhost-user,id=net{index},chardev=c{index},queues={self.pairs}"
        card = f"virtio-net-pci,netdev=net{index},mac={MAC}{several}"
        return ["-chardev", f"socket,id=c{index},path={self.socket}", "-netdev", netdev, "-device", card]

    def uml(self, socket: str) -> str:
        return f"virtio_uml.device={socket}:1"


def until(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_the_driver_commands_and_is_told(tmp_path: Path) -> None:
    link, path = NullLink(), str(tmp_path / "s")
    with Net(link, mac=MAC, mtu=1400) as nic, Server() as server:
        server.add(nic, path)
        server.start()
        with vm.Guest("uml", [Nic(path)]) as guest:
            rules = nic.filtering
            show = "cat /sys/class/net/eth0/"
            assert guest.run(show + "address").stdout.strip() == MAC
            assert guest.run(show + "mtu").stdout.strip() == "1400"
            guest.run("ip link set eth0 address " + OTHER).check()
            guest.run("ip link set eth0 up").check()
            assert nic.mac.hex(":") == OTHER
            assert not rules.rules.modes
            until(lambda: rules.rules.multicast)  # those that every IP host wants
            guest.run("ip link set eth0 promisc on").check()
            assert rules.rules.modes == {"promisc"}
            guest.run("ip link set eth0 promisc off; ifconfig eth0 allmulti").check()
            assert rules.rules.modes == {"allmulti"}
            guest.run("ip link add link eth0 name eth0.7 type vlan id 7 && ip link set eth0.7 up").check()
            assert 7 in rules.rules.vlans
            guest.run("ip link del eth0.7").check()
            assert 7 not in rules.rules.vlans
            nic.set_link(False)
            until(lambda: guest.run(show + "carrier").stdout.strip() == "0")
            nic.set_link(True)
            until(lambda: guest.run(show + "carrier").stdout.strip() == "1")
            guest.run("ip addr add 192.0.2.1/24 dev eth0").check()
            before = link.stats()["frames"]
            nic.announce()
            until(lambda: not nic.config.status & spec.S_ANNOUNCE)
            until(lambda: link.stats()["frames"] > before)
        assert nic.control.counters["commands"] == nic.control.counters["ok"] > 5


def test_the_driver_has_notifications_wait(tmp_path: Path) -> None:
    wire, path = Wire(), str(tmp_path / "s")
    frame = b"\xff" * 6 + bytes.fromhex(MAC.replace(":", ""))[::-1] + b"\x88\xb5" + bytes(46)
    with Net(wire, mac=MAC) as nic, Server() as server:
        server.add(nic, path)
        server.start()
        with vm.Guest("uml", [Nic(path)], files=["ethtool"]) as guest:
            guest.run("ip link set eth0 up").check()
            guest.run("ethtool -C eth0 rx-usecs 20000 rx-frames 40 tx-usecs 500 tx-frames 8").check()
            limits = [(queue.max_usecs, queue.max_packets) for queue in nic.coalescing.queues]
            assert limits == [(20000, 40), (500, 8)]
            (attachment,) = nic.attachments
            stats = attachment.vrings[0].stats
            before, told = int(guest.run(RECEIVED).stdout), stats()["notifications"]
            for _ in range(410):
                until(lambda: wire.send([frame]))
            until(lambda: int(guest.run(RECEIVED).stdout) >= before + 410)
            assert stats()["notifications"] - told <= 50  # far fewer than frames


def test_qemu_keeps_the_control_queue(tmp_path: Path) -> None:
    link, path = NullLink(), str(tmp_path / "s")
    with Net(link, num_queues=2) as nic, Server() as server:
        server.add(nic, path)
        server.start()
        with vm.Guest("qemu", [Nic(path, pairs=2)], cpus=2) as guest:
            assert guest.run("cat /sys/class/net/eth0/address").stdout.strip() == MAC
            guest.run("ip link set eth0 up && ip addr add 192.0.2.1/24 dev eth0").check()
            assert guest.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l").stdout.strip() == "2"
            guest.run("ping -c 1 -W 1 192.0.2.2")
            until(lambda: link.stats()["frames"])
            (attachment,) = nic.attachments
            assert attachment.features & (1 << spec.F_MQ)
            assert not attachment.features & (1 << spec.F_CTRL_VQ)
            assert nic.control.counters["commands"] == 0
            enabled = [vring._enabled for vring in attachment.vrings]
            assert nic.multiqueue.choice.pairs == sum(enabled[:4:2])
