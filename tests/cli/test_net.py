"""``virtio net`` as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtio.network import schemes
from virtio.spec import net as spec
from virtio.vhost_user.frontend import Frontend

Start = Callable[..., Any]
MAC = "52:54:00:12:34:56"


def virtio(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "virtio.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_nic(start: Start, tmp_path: Path) -> None:
    at = str(tmp_path / "s")
    service = start(
        "net",
        "null:",
        "-s",
        at,
        "--mac",
        MAC,
        "--mtu",
        9000,
        "--num-queues",
        2,
        "--speed",
        10000,
        said="others:",
    )
    assert f"NIC {MAC} on null:, at {at}" in service.said
    assert (
        f"-netdev vhost-user,id=n0,chardev=c0,queues=2 -device virtio-net-pci,netdev=n0,mac={MAC}"
        in service.said
    )
    assert f"virtio_uml.device={at}:1" in service.said
    with Frontend.connect(at) as front:
        config = spec.Config.unpack(front.get_config(0, spec.Config.SIZE))
        assert (bytes(config.mac).hex(":"), config.mtu, config.speed) == (MAC, 9000, 10000)
        assert config.max_virtqueue_pairs == 2
        assert front.get_features() & 1 << spec.F_RSS
    assert service.stop() == 0


def test_finished_frames_only(start: Start, tmp_path: Path) -> None:
    at = str(tmp_path / "s")
    start("net", "--link", "loop:", "-s", at, "--no-offloads", "--standby", "--hash-report", said="others:")
    with Frontend.connect(at) as front:
        features = front.get_features()
    assert not features & (1 << spec.F_CSUM | 1 << spec.F_GUEST_TSO4)
    assert features & 1 << spec.F_STANDBY
    assert features & 1 << spec.F_HASH_REPORT


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "where are frames to go? [E-USAGE]"),
        (("null:", "--link", "loop:"), "a NIC has one"),
        (("nothing:",), "'nothing:' is no link"),
        (("null:", "--mac", "52:54"), "is no MAC address"),
        (("null:", "--queue-size", "100"), "use a power of two"),
        (("null:", "--mtu", "10"), "--mtu"),
        (("null:", "--for", "qemu", "--mac", "ff:ff:ff:ff:ff:ff"), "is not the address of one NIC"),
    ],
)
def test_what_cannot_be(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = virtio("net", *arguments, "-s", str(tmp_path / "s"))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_links() -> None:
    done = virtio("net", "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.partition("Options:")[0].split())
    assert "loop: sends every frame back" in text
    assert "tap:NAME an interface of the host" in text
    assert "pcap=FILE&snaplen=BYTES record what the guest sends and gets" in text
    for scheme in schemes():
        assert f" {scheme}:" in text


@pytest.mark.parametrize(
    ("frontend", "line"),
    [
        ("qemu", "-device virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,mq=on,vectors=10"),
        ("libvirt", "<driver queues='4'/>"),
        ("cloud-hypervisor", "--net vhost_user=true,socket=/run/n.sock,mac=52:54:00:12:34:56,num_queues=8"),
        ("crosvm", "--vhost-user net,socket=/run/n.sock"),
        ("uml", "virtio_uml.device=/run/n.sock:1"),
    ],
)
def test_lines_for_front_ends(frontend: str, line: str) -> None:
    done = virtio("net", "null:", "-s", "/run/n.sock", "--mac", MAC, "--num-queues", "4", "--for", frontend)
    assert done.returncode == 0
    assert line in done.stdout
    assert done.stderr == ""


def test_long_queues_are_told_to_qemu() -> None:
    done = virtio("net", "null:", "-s", "/run/n.sock", "--queue-size", "1024", "--for", "qemu")
    assert "rx_queue_size=1024,tx_queue_size=1024" in done.stdout


def test_capabilities() -> None:
    done = virtio("net", "--print-capabilities")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"type": "net", "features": []})
