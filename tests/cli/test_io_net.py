"""``virtio io`` on a NIC behind a real socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from virtio.cli.app import root, run
from virtio.devices.blk import Blk
from virtio.devices.net import Net as NetDevice
from virtio.drivers import Net
from virtio.errors import (
    CaptureFileError,
    DeviceTimeoutError,
    NetworkDownError,
    UnsupportedRequestError,
    UsageError,
    VirtioError,
)
from virtio.network.capture_file import Packet, read
from virtio.service import serving

MAC = "52:54:00:00:00:01"
WAIT = ("--wait", "30", "--answers")
HEX = "ffffffffffff 525400000001 88b5" + " 00" * 46


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Serve NICs; each stays until the last test."""
    folder = tmp_path_factory.mktemp("io-net")
    return lambda name: str(folder / name)


@pytest.fixture(scope="module")
def echoing(serve: Callable[..., str]) -> Iterator[str]:
    with (
        NetDevice("loop:", mac=MAC, mtu=1500, num_queues=2, speed=10000, duplex="full") as device,
        serving(device, serve("loop")),
    ):
        yield serve("loop")


@pytest.fixture(scope="module")
def flooding(serve: Callable[..., str]) -> Iterator[str]:
    with NetDevice("flood:?size=100&burst=8", mac=MAC) as device, serving(device, serve("flood")):
        yield serve("flood")


def io(path: str, *arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(root, ["io", path, *arguments], input=stdin)


def done(path: str, *arguments: str, stdin: bytes = b"") -> Result:
    result = io(path, *arguments, stdin=stdin)
    assert result.exit_code == 0, result.exception
    return result


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_what_is_sent_comes_back(echoing: str) -> None:
    result = done(echoing, "send", HEX, "arp:192.0.2.1", "--source", "192.0.2.2", *WAIT, "2")
    assert "2 frames sent" in result.stderr
    raw, arp = result.stdout.splitlines()
    assert raw.split(maxsplit=2)[1:] == ["60", f"{MAC} > ff:ff:ff:ff:ff:ff  0x88b5  46 bytes"]
    assert arp.endswith("  ARP  who has 192.0.2.1? tell 192.0.2.2")


def test_for_programs(echoing: str) -> None:
    arguments = ("ping:192.0.2.1", "--source", "192.0.2.2", "--vlan", "7", "--to", MAC, "--count", "2")
    first, second = lines(done(echoing, "send", *arguments, *WAIT, "2", "--json"))
    assert (first["length"], first["source"], first["target"], first["vlans"]) == (60, MAC, MAC, [7])
    assert (first["type"], first["text"]) == ("IPv4", "192.0.2.2 > 192.0.2.1 ICMP echo request 1, 8 bytes")
    assert str(second["text"]).endswith("echo request 2, 8 bytes")
    assert bytes.fromhex(str(first["data"]))[:6].hex(":") == MAC
    assert isinstance(first["time"], float)


def test_the_bytes_are_shown(echoing: str) -> None:
    result = done(echoing, "send", "udp:192.0.2.1:9", "--source", "192.0.2.2", *WAIT, "1", "--hex")
    said, first = result.stdout.splitlines()[:2]
    assert said.endswith("192.0.2.2:49152 > 192.0.2.1:9 UDP, 8 bytes")
    assert first.startswith("00000000  ff ff ff ff ff ff 52 54  00 00 00 01 08 00")


def test_a_capture_is_recorded_and_sent(echoing: str, tmp_path: Path) -> None:
    path = str(tmp_path / "out.pcapng")
    done(echoing, "send", HEX, *WAIT, "1", "--write", path)
    with open(path, "rb") as file:
        (packet,) = [record for record in read(file) if isinstance(record, Packet)]
    assert packet.data == bytes.fromhex(HEX)
    assert packet.direction.name == "IN"
    again = done(echoing, "send", "--read", path, "--count", "3", "--interval", "0.01", *WAIT, "3")
    assert "3 frames sent" in again.stderr
    assert len(again.stdout.splitlines()) == 3


def test_receiving(flooding: str, tmp_path: Path) -> None:
    path = str(tmp_path / "in.pcapng")
    result = done(flooding, "receive", "--count", "5", "--promiscuous", "--write", path)
    assert len(result.stdout.splitlines()) == 5
    assert "5 frames of 500 bytes came" in result.stderr
    with open(path, "rb") as file:
        assert len([record for record in read(file) if isinstance(record, Packet)]) == 5


def test_receiving_nothing_ends_in_time(echoing: str) -> None:
    result = done(echoing, "receive", "--seconds", "0.1", "--json")
    assert result.stdout == ""
    assert "0 frames of 0 bytes came" in result.stderr


def test_flooding(echoing: str) -> None:
    arguments = ("--frames", "2000", "--pairs", "2", "--size", "1514", "--json")
    data = json.loads(done(echoing, "flood", *arguments).stdout)
    assert (data["sent"], data["received"], data["dropped"]) == (2000, 0, 0)
    assert data["sent_mbit_per_second"] > 0
    counted = json.loads(done(echoing, "flood", "--seconds", "1", "--receive", "--json").stdout)
    assert counted["received"] > 0
    assert "sent per second" in done(echoing, "flood", "--frames", "10", "--size", "9014").stdout


def test_flooding_at_a_rate(echoing: str) -> None:
    """Never more than is due; how much less depends on the machine."""
    data = json.loads(done(echoing, "flood", "--rate", "1k", "--seconds", "0.5", "--json").stdout)
    assert 1 <= data["sent"] <= 1 + 1000 * data["seconds"]
    few = json.loads(done(echoing, "flood", "--rate", "1M", "--frames", "77", "--json").stdout)
    assert few["sent"] == 77


def test_echoing(flooding: str) -> None:
    data = json.loads(done(flooding, "echo", "--seconds", "1", "--promiscuous", "--json").stdout)
    assert data["received"] >= data["sent"] > 0


def test_an_echo_that_is_ended_says_what_it_did(serve: Callable[..., str]) -> None:
    command = [sys.executable, "-m", "virtio.cli", "io", serve("ended"), "echo", "--promiscuous", "--json"]
    with (
        NetDevice("flood:", mac=MAC) as device,
        serving(device, serve("ended")),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        while not device.nic.stats()["transmit"][0]["frames"]:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    data = json.loads(output)
    assert data["received"] >= data["sent"] > 0


def test_what_the_nic_is(echoing: str, flooding: str) -> None:
    data = json.loads(done(echoing, "info", "--json").stdout)
    assert {name: data[name] for name in ("mac", "link_up", "mtu", "max_pairs", "control_queue")} == {
        "mac": MAC, "link_up": True, "mtu": 1500, "max_pairs": 2, "control_queue": True,
    }  # fmt: skip
    assert (data["speed"], data["duplex"]) == (10000, 1)
    assert "MRG_RXBUF" in data["features"]
    assert "mtu            not said" in done(flooding, "info").stdout


def test_probing_a_nic(echoing: str) -> None:
    result = CliRunner().invoke(root, ["probe", echoing])
    assert f"nic     {MAC}, link up, MTU 1500, 2 pairs of queues" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("send",), "nothing to send"),
        (("send", "xyz"), "describes no frame"),
        (("send", ""), "describes no frame"),
        (("send", "ping:192.0.2.1"), "needs an address to come from"),
        (("send", "ping:nowhere", "--source", "192.0.2.1"), "is no IP address"),
        (("send", "ping:2001:db8::1", "--source", "192.0.2.1"), "mixes IPv4 and IPv6"),
        (("send", "udp:192.0.2.1", "--source", "192.0.2.1"), "has no port"),
        (("send", "arp:2001:db8::1"), "ARP asks for IPv4"),
        (("flood", "--size", "10"), "frames of 10 bytes"),
        (("flood", "--rate", "0"), "a rate of 0"),
        (("flood", "--pairs", "3"), "3 pairs of queues wanted"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_usage_errors(echoing: str, arguments: tuple[str, ...], message: str) -> None:
    error = io(echoing, *arguments).exception
    assert isinstance(error, UsageError)
    assert message in str(error)


@pytest.mark.parametrize(
    "arguments", [("send", HEX, "--to", "x"), ("flood", "--rate", "fast"), ("flood", "--size", "?")]
)
def test_options_that_make_no_sense(echoing: str, arguments: tuple[str, ...]) -> None:
    assert run(["io", echoing, *arguments]) == 2


def test_a_file_that_is_no_capture(echoing: str) -> None:
    assert isinstance(io(echoing, "send", "--read", "-", stdin=b"hello").exception, CaptureFileError)
    header = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000")
    assert "no Ethernet frame" in str(io(echoing, "send", "--read", "-", stdin=header).exception)


def test_a_disk_is_no_nic(serve: Callable[..., str]) -> None:
    with Blk("mem:1M") as disk, serving(disk, serve("disk")):
        error = io(serve("disk"), "send", HEX).exception
        assert isinstance(error, UsageError)
        assert "is no NIC; its features are those of blk" in str(error)
        assert "capacity" in done(serve("disk"), "info").stdout


def test_a_link_that_is_down(serve: Callable[..., str]) -> None:
    with NetDevice("null:", mac=MAC) as device, serving(device, serve("down")):
        device.set_link(False)
        for verb in ("send", "receive", "flood", "echo"):
            error = io(serve("down"), verb, *([HEX] if verb == "send" else [])).exception
            assert isinstance(error, NetworkDownError)
        assert "link up        no" in done(serve("down"), "info").stdout


def test_a_device_that_takes_no_more(echoing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Net, "send", lambda self, frames: 1)
    error = io(echoing, "send", HEX, HEX).exception
    assert isinstance(error, DeviceTimeoutError)
    assert "room for 1 frames" in str(error)


def test_nobody_filters(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A back-end without a control queue says so."""
    monkeypatch.setattr("virtio.drivers.net.features.WANTED", 1 << 16 | 1 << 5)
    with NetDevice("null:", mac=MAC) as device, serving(device, serve("plain")):
        error = io(serve("plain"), "receive", "--promiscuous").exception
    assert isinstance(error, UnsupportedRequestError)
    assert isinstance(error, VirtioError)
