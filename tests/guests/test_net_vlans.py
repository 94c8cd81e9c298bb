"""VLANs of a switch, as Linux guests see them, and a capture of what passed. Boots two guests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lan import Machine, need, two_machines, until

pytestmark = pytest.mark.guest

ACCESS = {10: "eth0", 20: "eth1", 30: "eth2"}
"""The access ports of one guest; the other has a trunk of VLANs 10 and 20."""
SEEN = "52:54:00:00:01:"
"""How the addresses of the one with the access ports begin."""
FIN, SYN, ACK = 0x01, 0x02, 0x10
FIELDS = (
    "frame.len", "eth.src", "vlan.id", "arp.opcode", "arp.src.proto_ipv4", "arp.dst.proto_ipv4", "icmp.type",
    "icmp.checksum.status", "tcp.flags", "http.request.uri", "http.response.code",
)  # fmt: skip


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capture") / "trunk.pcapng"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, capture: Path) -> Iterator[tuple[Machine, Machine]]:
    access = [f"switch:vlans?port=access{vlan}&vlan={vlan}" for vlan in ACCESS]
    trunk = [f"switch:vlans?port=trunk&trunk=10,20&pcap={capture}"]
    with two_machines(tmp_path_factory.mktemp("vlans"), access, trunk) as (one, other):
        # Else it would answer for an address of one VLAN in another.
        other.sh("sysctl -w net.ipv4.conf.all.arp_ignore=1 && ip link set eth0 up")
        for vlan, interface in ACCESS.items():
            one.up(interface, f"10.0.{vlan}.1/24")
            other.add_vlan("eth0", vlan, f"10.0.{vlan}.2/24")
        yield one, other


def test_a_trunk_carries_several_vlans_to_their_access_ports(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    one.ping("10.0.10.2")
    one.ping("10.0.20.2", "-s 1400")
    other.ping("10.0.10.1")


def test_vlans_are_kept_apart(pair: tuple[Machine, Machine]) -> None:
    one, _ = pair
    assert one.hears("10.0.10.2", "eth0")
    assert one.hears("10.0.20.2", "eth1")
    assert not one.hears("10.0.20.2", "eth0")
    assert not one.hears("10.0.10.2", "eth1")


def test_a_trunk_does_not_carry_others(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    assert not one.hears("10.0.30.2", "eth2")
    before = other.nics[0].link.stats()["dropped_vlan"]
    assert not other.hears("10.0.30.1", "eth0.30")
    assert other.nics[0].link.stats()["dropped_vlan"] > before


@pytest.mark.peer
def test_tshark_shows_the_session(pair: tuple[Machine, Machine], capture: Path) -> None:
    need("tshark")
    one, other = pair
    other.sh("mkdir -p /srv && echo 'a line of text' >/srv/text && httpd -p 10.0.10.2:80 -h /srv")
    for machine in pair:
        machine.sh("ip neigh flush all")
    one.ping("10.0.10.2", "-s 1234")
    one.ping("10.0.20.2")
    assert one.sh("wget -q -O - http://10.0.10.2/text") == "a line of text"
    until(lambda: len([frame for frame in tshark(capture) if flags(frame) & FIN]) == 2)
    frames = tshark(capture)
    assert {frame["vlan.id"] for frame in frames if frame["eth.src"].startswith(SEEN)} == {"10", "20"}
    in_ten = [frame for frame in frames if frame["vlan.id"] == "10"]
    asked = [frame for frame in in_ten if frame["arp.dst.proto_ipv4"] == "10.0.10.2"]
    assert "1" in {frame["arp.opcode"] for frame in asked}
    answers = [frame["eth.src"] for frame in in_ten if frame["arp.src.proto_ipv4"] == "10.0.10.2"]
    assert "52:54:00:00:02:00" in answers
    echoes = [frame["icmp.type"] for frame in in_ten if frame["frame.len"] == str(1234 + 8 + 20 + 18)]
    assert echoes == ["8", "0"] * 3
    assert {frame["icmp.checksum.status"] for frame in in_ten if frame["icmp.type"]} == {"1"}
    web = [frame for frame in in_ten if frame["tcp.flags"]]
    assert [flags(frame) for frame in web[:3]] == [SYN, SYN | ACK, ACK]
    assert [frame["http.request.uri"] for frame in web if frame["http.request.uri"]] == ["/text"]
    assert [frame["http.response.code"] for frame in web if frame["http.response.code"]] == ["200"]


def flags(frame: dict[str, str]) -> int:
    return int(frame["tcp.flags"] or "0", 16)


def tshark(path: Path) -> list[dict[str, str]]:
    """The frames of a capture as tshark reads it, with the fields of FIELDS."""
    options = [word for field in FIELDS for word in ("-e", field)]
    command = ["tshark", "-r", str(path), "-T", "fields", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]
