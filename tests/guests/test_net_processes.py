"""Guests on a switch that is a process, with NICs that are processes. Boots two."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lan import Machine, boot, need, until

from virtio.network.switch import query

pytestmark = pytest.mark.guest

Start = Callable[..., Any]
MACS = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
ADDRESSES = "192.0.2.1", "192.0.2.2"


def serve_nics(start: Start, directory: Path, switch: Path) -> list[str]:
    """Start a ``virtio net`` for each guest; their sockets."""
    sockets = [str(directory / f"nic{number}") for number in range(2)]
    for socket, mac, name in zip(sockets, MACS, ("one", "other"), strict=True):
        link = f"switch:{switch}?port={name}"
        start("net", link, "--socket-path", socket, "--mac", mac, "--mtu", 9000, said="others:")
    return sockets


def test_they_talk_and_the_switch_comes_back(start: Start, tmp_path: Path) -> None:
    need("linux.uml")
    at = tmp_path / "lan"
    switch = start("switch", "lan", "--socket", at, said="a NIC joins:")
    sockets = serve_nics(start, tmp_path, at)
    with ExitStack() as stack:
        one, other = (Machine(stack.enter_context(boot([socket]))) for socket in sockets)
        for machine, mac, address in zip((one, other), MACS, ADDRESSES, strict=True):
            assert (machine.read("eth0", "address"), machine.read("eth0", "mtu")) == (mac, "9000")
            machine.up("eth0", f"{address}/24")
        one.ping(ADDRESSES[1], "-s 8972")
        other.sh("mkdir /srv && head -c 8000000 /dev/urandom >/srv/file && httpd -h /srv")
        fetched = one.sh(f"wget -q -O - http://{ADDRESSES[1]}/file | sha256sum")
        assert fetched == other.sh("sha256sum </srv/file")
        ports = {port["port"]: port["counters"] for port in query(str(at))["ports"]}
        assert ports["other"]["in_bytes"] > 8_000_000
        assert ports["one"]["out_bytes"] > 8_000_000
        assert {station["address"] for station in query(str(at))["stations"]} == set(MACS)

        assert switch.stop() == 0
        until(lambda: {machine.read("eth0", "carrier") for machine in (one, other)} == {"0"})
        start("switch", "lan", "--socket", at, said="a NIC joins:")
        until(lambda: {machine.read("eth0", "carrier") for machine in (one, other)} == {"1"})
        other.ping(ADDRESSES[0])
