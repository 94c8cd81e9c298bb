from __future__ import annotations

import pytest

from virtio.errors import UsageError
from virtio.vm import Blk, Drive, Net, Rng


def test_a_disk_in_qemu() -> None:
    disk = Blk("/run/a,b.sock", num_queues=4, queue_size=64, packed=True, generation="modern", boot=True)
    assert disk.qemu(3, "reconnect") == [
        "-chardev",
        "socket,id=vhost3,path=/run/a,,b.sock",
        "-device",
        "vhost-user-blk-pci,chardev=vhost3,num-queues=4,queue-size=64,bootindex=1,disable-legacy=on,packed=on",
    ]


def test_legacy_only_and_own_options() -> None:
    arguments = Blk("/s", generation="legacy", options={"event_idx": "off"}).qemu(0, "reconnect")
    assert arguments[3] == "vhost-user-blk-pci,chardev=vhost0,disable-modern=on,event_idx=off"


@pytest.mark.parametrize(
    ("option", "value"), [("reconnect", "reconnect=2"), ("reconnect-ms", "reconnect-ms=2000")]
)
def test_reconnection_in_the_unit_of_its_option(option: str, value: str) -> None:
    assert Rng("/s", reconnect=2).qemu(0, option)[1].endswith("," + value)


def test_a_disk_in_uml() -> None:
    assert Blk("/s").uml("/tmp/s") == "virtio_uml.device=/tmp/s:2"


def test_a_nic_in_qemu() -> None:
    nic = Net("/run/a,b.sock", num_queues=2, mac="52:54:00:00:00:01", packed=True, reconnect=1)
    assert nic.qemu(1, "reconnect") == [
        "-chardev",
        "socket,id=vhost1,path=/run/a,,b.sock,reconnect=1",
        "-netdev",
        "vhost-user,id=net1,chardev=vhost1,queues=2",
        "-device",
        "virtio-net-pci,netdev=net1,mac=52:54:00:00:00:01,mq=on,packed=on",
    ]
    assert Net("/s").qemu(0, "")[3:] == [
        "vhost-user,id=net0,chardev=vhost0",
        "-device",
        "virtio-net-pci,netdev=net0",
    ]


def test_a_nic_in_uml_has_the_address_of_its_back_end() -> None:
    assert Net("/s", mac="52:54:00:00:00:01").uml("/tmp/s") == "virtio_uml.device=/tmp/s:1"


@pytest.mark.parametrize(
    "device",
    [
        Rng("/s"),
        Blk("/s", packed=True),
        Blk("/s", num_queues=2),
        Blk("/s", reconnect=1),
        Net("/s", num_queues=2),
        Drive("/image"),
    ],
)
def test_what_uml_cannot_do(device: Blk | Net | Rng | Drive) -> None:
    with pytest.raises(UsageError) as raised:
        device.uml("/s")
    assert raised.value.fix == "use QEMU (--qemu)"


def test_a_drive_of_qemus_own() -> None:
    assert Drive("/i,1", "ide-hd", readonly=True).qemu(0, "") == [
        "-drive",
        "if=none,id=drive0,format=raw,file=/i,,1,readonly=on",
        "-device",
        "ide-hd,drive=drive0",
    ]
    assert Drive("/i").modules == ("virtio_blk",)
    assert "ahci" in Drive("/i", "ide-hd").modules
