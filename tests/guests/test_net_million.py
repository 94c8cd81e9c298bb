"""A million frames from guest to guest: each arrives, and each is right. Boots two."""

from __future__ import annotations

from pathlib import Path

import pytest
from lan import Machine, lost, two_machines

pytestmark = [pytest.mark.guest, pytest.mark.stress, pytest.mark.timeout(600)]

SENDER, RECEIVER = "192.0.2.1", "192.0.2.2"
MTU = 576
WINDOW = 65536
"""Bytes under way: fewer frames than a ring has buffers, so that none finds it full."""
FILE_SIZE = 32 << 20
TIMES = 17
FRAMES = 1_000_000


def prepare(machine: Machine, address: str) -> None:
    machine.up("eth0", f"{address}/24")
    machine.sh(f"ip link set eth0 mtu {MTU} && sysctl -w net.ipv4.tcp_rmem='4096 {WINDOW} {WINDOW}'")


def tcp_errors(machine: Machine) -> tuple[int, int]:
    """Segments that a kernel found damaged, and among them those with a wrong checksum."""
    names, values = machine.sh("grep ^Tcp: /proc/net/snmp").splitlines()
    counters = dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
    return counters["InErrs"], counters["InCsumErrors"]


def test_a_million_frames_and_none_lost(tmp_path: Path) -> None:
    # Without offloads each frame is one segment: summed up by one kernel, verified by the other.
    with two_machines(tmp_path, ["switch:lan"], ["switch:lan"], offloads=False) as (sender, receiver):
        prepare(sender, SENDER)
        prepare(receiver, RECEIVER)
        sender.sh(f"mkdir /srv && head -c {FILE_SIZE} /dev/urandom >/srv/file && httpd -h /srv")
        fetch = f"for n in $(seq {TIMES}); do wget -q -O - http://{SENDER}/file | sha256sum; done"
        sums = receiver.sh(fetch, timeout=500).splitlines()
        assert sums == [sender.sh("sha256sum </srv/file")] * TIMES
        nics = sender.nics[0], receiver.nics[0]
        sent, back = (nic.nic.stats()["transmit"][0] for nic in nics)
        came, answered = (nic.nic.stats()["receive"][0] for nic in reversed(nics))
        assert sent["frames"] >= FRAMES
        assert (came["frames"], answered["frames"]) == (sent["frames"], back["frames"])
        assert sent["partial"] == came["partial"] == 0
        assert not lost(*nics)
        assert tcp_errors(sender) == tcp_errors(receiver) == (0, 0)
