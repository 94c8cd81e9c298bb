"""``virtio switch`` as a program."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtio.cli.switch import in_words
from virtio.errors import NetworkError
from virtio.network.switch import PortSettings, SharedPort, query
from virtio.testing.wire import Wire, put_frames

Start = Callable[..., Any]
FRAME = bytes(6 * [255]) + bytes.fromhex("525400000001") + bytes(50)


def virtio(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "virtio.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_a_switch_and_what_it_shows(start: Start, tmp_path: Path) -> None:
    at = str(tmp_path / "s")
    service = start("switch", "lan", "--socket", at, "--uplink", "null:", said="a NIC joins:")
    assert f"switch lan, at {at}\n  a NIC joins: switch:{at}\n" in service.said
    one, other = SharedPort(at, PortSettings("one", vlan=10)), SharedPort(at, PortSettings(vlan=10))
    sink = Wire()
    other.connect(sink)
    until = time.monotonic() + 20
    while not sink.frames:
        assert time.monotonic() < until
        put_frames(one, [FRAME])
        time.sleep(0.01)
    shown = virtio("switch", at, "--show")
    assert shown.returncode == 0
    assert "switch lan: 1 of 8192 stations known, for 300 s each" in shown.stdout
    assert "one" in shown.stdout
    assert "52:54:00:00:00:01" in shown.stdout
    data = json.loads(virtio("switch", "lan", "--socket", at, "--show", "--json").stdout)
    assert [port["port"] for port in data["ports"]] == ["uplink0", "one", "port2"]
    assert data["stations"][0]["port"] == "one"
    one.close()
    other.close()
    assert service.stop() == 0
    assert not Path(at).exists()


def test_fixed_settings(start: Start, tmp_path: Path) -> None:
    at = str(tmp_path / "s")
    service = start("switch", "lan", "--socket", f"{at}?vlan=10&isolated", said="a NIC joins:")
    assert "(vlan=10 isolated)" in service.said
    with pytest.raises(NetworkError, match="fixed settings"):
        SharedPort(at, PortSettings(vlan=20))
    link = SharedPort(at)
    assert query(at)["ports"][0]["settings"] == {"vlan": "10", "isolated": "yes"}
    link.close()


def test_watching(start: Start, tmp_path: Path) -> None:
    service = start("switch", "lan", "--socket", tmp_path / "s", "--watch", "--json", said="a NIC joins:")
    first, second = (json.loads(service.process.stdout.readline()) for _ in range(2))
    assert first == second
    assert first["ports"] == []
    assert service.stop() == 0


def test_what_cannot_be(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    done = virtio("switch", nowhere, "--show")
    assert done.returncode == 4
    assert "no switch answers" in done.stderr
    assert virtio("switch", nowhere).returncode == 2
    assert virtio("switch", "lan", "--socket", f"{nowhere}?colour=1").returncode == 2
    assert virtio("switch", "lan", "--socket", nowhere, "--uplink", "nowhere:").returncode == 2
    assert virtio("switch", "lan", "--socket", f"{tmp_path}/missing/s").returncode == 4
    assert virtio("switch", "lan", "--show", "--socket", "/a", "--socket", "/b").returncode == 2


def test_tables() -> None:
    counters = {"in_frames": 3, "in_bytes": 180, "out_frames": 1, "out_bytes": 60, "flooded": 2}
    port = {
        "port": "web",
        "connected": False,
        "settings": {"vlan": "10", "isolated": "yes"},
        "counters": {**counters, "dropped_full": 2, "dropped_vlan": 0, "dropped_down": 1},
    }
    text = in_words({"name": "lan", "ageing": 0, "capacity": 8, "ports": [port], "stations": []})
    assert text == (
        "switch lan: 0 of 8 stations known, for good\n\n"
        "PORT        IN  BYTES  OUT  BYTES  FLOODED  DROPPED             SETTINGS\n"
        "web (down)  3   180    1    60     2        3 (full 2, down 1)  vlan=10 isolated"
    )
