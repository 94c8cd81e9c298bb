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
SYN, ACK = 0x02, 0x10


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
    one.ping("10.0.10.2", "-s 1000")
    assert one.sh("wget -q -O - http://10.0.10.2/text") == "a line of text"
    until(lambda: tshark(capture, "tcp.flags.fin == 1 && ip.src == 10.0.10.2", "frame.len"))
    assert tshark(capture, "vlan.id == 30 && eth.src != 52:54:00:00:02:00", "frame.number") == []
    asked = tshark(capture, "arp.opcode == 1 && arp.dst.proto_ipv4 == 10.0.10.2", "vlan.id", "eth.src")
    assert asked[-1] == ("10", "52:54:00:00:01:00")
    answered = tshark(capture, "arp.opcode == 2 && arp.src.proto_ipv4 == 10.0.10.2", "arp.src.hw_mac")
    assert answered[-1] == ("52:54:00:00:02:00",)
    echoes = tshark(capture, "icmp && frame.len > 1000", "icmp.type", "icmp.seq", "icmp.checksum.status")
    assert echoes == [(kind, str(number), "1") for number in range(3) for kind in ("8", "0")]
    web = tshark(capture, "http", "ip.dst", "http.request.uri", "http.response.code", "http.file_data")
    assert web == [("10.0.10.2", "/text", "", ""), ("10.0.10.1", "", "200", "a line of text\\n")]
    flags = [int(flags, 16) for (flags,) in tshark(capture, "tcp.stream == 0", "tcp.flags")]
    assert flags[:3] == [SYN, SYN | ACK, ACK]
    assert tshark(capture, "tcp.analysis.retransmission || tcp.analysis.lost_segment", "frame.number") == []


def tshark(path: Path, wanted: str, *fields: str) -> list[tuple[str, ...]]:
    """Fields of the frames that a filter of tshark's shows."""
    command = ["tshark", "-r", str(path), "-Y", wanted, "-T", "fields"]
    command += [word for field in fields for word in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [tuple(line.split("\t")) for line in done.stdout.splitlines()]
