"""The benchmarks run, for moments, on small files: that they work, not how fast."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench"
Load = Callable[[str], ModuleType]


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCH / script) if script else str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout


def test_one_workload_of_each_sort(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    names = "4k randread depth 32 polling,rings alone depth 32 sleeping,read O_DIRECT,cold cache,4 queues"
    text = run(
        "",
        "--parts",
        "blk",
        "--ours-only",
        "--rounds",
        "1",
        "--seconds",
        "0.02",
        "--file-mib",
        "8",
        "--directory",
        str(tmp_path),
        "--only",
        names,
        "--json",
        str(results),
    )
    found: dict[str, Any] = json.loads(results.read_text())
    assert found["circumstances"]["storage daemon"] == "none"
    workloads = found["blk"]["workloads"]
    assert {each["section"] for each in workloads.values()} == {"disk", "rings", "equal", "own"}
    for name, each in workloads.items():
        assert name in text
        for figures in each["figures"].values():
            assert figures["iops"] > 0
            assert 0 < figures["p50_us"] <= figures["p99_us"]
            assert figures["cpu_ns"] > 0
    queues = next(each for name, each in workloads.items() if name.startswith("4 queues"))
    assert set(queues["figures"]) == {"4 queues", "1 queue"}
    assert [path.name for path in tmp_path.glob("*.img")] == []
    # What was measured can be shown again.
    assert run("", "--from", str(results)) == text


@pytest.mark.peer
def test_with_the_peer(load: Load, tmp_path: Path) -> None:
    if load("peers").newest() is None:
        pytest.skip("no qemu-storage-daemon")
    results = tmp_path / "results.json"
    text = run(
        "blk.py", "--quick", "--file-mib", "8", "--directory", str(tmp_path), "--json", str(results),
        "--only", "4k randwrite O_DIRECT,4k randread depth 1 polling,rings alone depth 128 polling",
    )  # fmt: skip
    workloads = json.loads(results.read_text())["blk"]["workloads"]
    assert len(workloads) == 3
    for name, each in workloads.items():
        assert f"{load('report').ratio(each):.2f}" in text
        assert set(each["figures"]) == {"pyvirtio", "storage-daemon"}
        assert len(each["runs"]["storage-daemon"]) == 1, name


def test_limits(load: Load, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    path = tmp_path / "file"
    load("residence").make_file(path, 1 << 20)
    wanted = {limit.name for limit in load("limits").LIMITS if not limit.mode.startswith("uring")}
    found = load("limits").measure(tmp_path, lambda kind: path, wanted, 1, 0.01)
    assert set(found) == wanted
    assert all(rate > 0 for rate in found.values())


def test_anatomy(tmp_path: Path) -> None:
    document = tmp_path / "time.md"
    text = run(
        "anatomy.py",
        "--quick",
        "--requests",
        "1000",
        "--directory",
        str(tmp_path),
        "--markdown",
        str(document),
    )
    assert "device: take the chain" in text
    assert "<!-- begin: steps -->" in document.read_text()
    assert [path.name for path in tmp_path.glob("*.img")] == []


def test_instructions(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind")
    counted = tmp_path / "counted.json"
    run("instructions.py", "--only", "rings, split", "--json", str(counted))
    each = json.loads(counted.read_text())["rings, split"]
    # What the compiler makes of it differs; that a request takes some instructions at both ends does not.
    assert 50 < each["device"] < 5000
    assert 50 < each["driver"] < 5000
    assert any(name.endswith("SplitDeviceQueue.take") or "chain" in name for name in each["functions"])


@pytest.mark.peer
def test_a_nic_with_its_peer(load: Load, tmp_path: Path) -> None:
    if load("testpmd").command_line() is None:
        pytest.skip("no dpdk-testpmd, and VIRTIO_TESTPMD does not say how to start it")
    results = tmp_path / "results.json"
    text = run("net.py", "--quick", "--json", str(results), "--only", "looped 64 B packed,switch 64 B,idle")
    found = json.loads(results.read_text())["net"]
    assert set(found["workloads"]) == {"looped 64 B packed"}
    rates = found["workloads"]["looped 64 B packed"]["rates"]
    assert set(rates) == {"dpdk", "device", "driver"}
    assert min(rates.values()) > 0
    assert min(found["switch"]["switch 64 B"]["rates"].values()) > 0
    assert f"{rates['device'] / rates['dpdk']:.2f}" in text
    assert set(found["idle"]) == {"driver", "device"}
