"""The benchmarks' own parts: which peer, which workloads, which pages, which instructions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]
MIB = 1 << 20


def program(folder: Path, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "qemu-storage-daemon"
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


def test_the_newest_peer(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = load("peers")
    monkeypatch.setattr(peers, "ELSEWHERE", (str(tmp_path / "opt-*"),))
    monkeypatch.setenv("PATH", f"{tmp_path}/none")
    assert peers.chosen(None) is None
    program(tmp_path / "old", "/bin/echo version 9.2.1")
    program(tmp_path / "broken", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/old:{tmp_path}/broken")
    assert peers.chosen(None) == f"{tmp_path}/old/qemu-storage-daemon"
    newest = program(tmp_path / "opt-new", "/bin/echo version 11.1.3 of Debian 1:11.1.3+ds-1")
    assert peers.chosen(None) == str(newest)
    assert peers.chosen(f"{tmp_path}/old/qemu-storage-daemon") == f"{tmp_path}/old/qemu-storage-daemon"
    with pytest.raises(SystemExit, match="broken"):
        peers.chosen(f"{tmp_path}/broken/qemu-storage-daemon")


def test_workloads_are_named_once_and_bounded_by_what_is_measured(load: Load) -> None:
    every = load("workloads").workloads(cores=16)
    limits = {limit.name for limit in load("limits").LIMITS}
    assert len({each.name for each in every}) == len(every)
    assert {each.limit for each in every} <= limits | {""}
    assert {each.section for each in every} == set(load("workloads").SECTIONS)
    assert all(each.ours.label != each.other.label for each in every)
    assert any(each.ours.cores == 8 for each in every)
    assert all(each.ours.cores == 1 for each in load("workloads").workloads(cores=2))


def test_the_two_sides_have_the_same_disk_and_the_same_rules(load: Load) -> None:
    command_of = load("backends").command_of
    Side = load("workloads").Side  # noqa: N806 -- it is a class
    ours, peer = Side(mode="direct"), Side("storage-daemon", "storage-daemon", mode="direct")
    disk = Path("/d.img")
    assert command_of(ours, disk, "s", None)[-2:] == ["--cache", "none"]
    assert "filename=/d.img,aio=io_uring,cache.direct=on" in " ".join(command_of(peer, disk, "s", "qsd"))
    assert "file:/d.img?map=off" in command_of(Side(mode="unmapped"), disk, "s", None)
    assert "null:1073741824" in command_of(Side(), None, "s", None)


def test_what_is_resident(load: Load, tmp_path: Path) -> None:
    residence = load("residence")
    path = tmp_path / "file"
    residence.make_file(path, 4 * MIB)
    with residence.Resident(path) as resident:
        assert resident.missing() == 0
        os.truncate(path, 2 * MIB)
        os.truncate(path, 4 * MIB)
        lost = resident.missing()
        assert lost == 2 * MIB // residence.PAGE
        resident.ensure()
        assert resident.missing() == 0


def test_what_is_dropped(load: Load, tmp_path: Path) -> None:
    from virtio.testing.page_cache import page_cache

    residence = load("residence")
    path = tmp_path / "file"
    residence.make_file(path, MIB)
    with path.open("rb") as file:
        if page_cache(file.fileno()) is None:
            pytest.skip("the kernel does not tell what the page cache holds of this file")
        residence.drop(path)
        cached = page_cache(file.fileno())
        assert cached is not None
        assert cached.cached == 0


CALLGRIND = """\
# callgrind format
events: Ir
fn=(1) __pyx_f_6virtio_6device_6worker_11QueueWorker_serve.constprop.0
10 100
+3 20
cfn=(2) memcpy
calls=4 0
* 400
fn=(2)
7 400
fn=(3) __pyx_f_6virtio_7testing_8lockstep_15LockstepChannel_publish_and_kick
1 5
cfn=(1)
calls=1 0
2 520
"""


def test_what_callgrind_counted(load: Load) -> None:
    callgrind = load("callgrind")
    counts = callgrind.parse(CALLGRIND.splitlines())
    assert counts.own == {
        "device.worker.QueueWorker.serve": 120,
        "memcpy": 400,
        "testing.lockstep.LockstepChannel.publish_and_kick": 5,
    }
    assert counts.total == 525
    assert counts.within("publish_and_kick", "QueueWorker.serve") == 520
    assert counts.minus(counts).total == 0
    summary = load("instructions").summary(counts, 5)
    assert (summary["device"], summary["driver"]) == (104.0, 1.0)


def test_instructions_that_have_become_more(load: Load) -> None:
    grown = load("instructions").grown
    kept = {"null": {"device": 1000.0}, "gone": {"device": 1.0}}
    assert grown({"null": {"device": 1019.0}}, kept, 2) == []
    assert grown({"null": {"device": 1021.0}, "new": {"device": 1.0}}, kept, 2) == ["null", "new"]


def test_what_is_kept_names_what_is_counted(load: Load) -> None:
    assert set(load("instructions").load_kept()) == {kind.name for kind in load("lockstep").KINDS}


def test_every_flag_is_described(load: Load) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    load("options").add_options(parser)
    text = (Path(__file__).parent.parent.parent / "bench" / "README.md").read_text()
    flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    assert len(flags) > 8
    assert [flag for flag in flags if flag != "--help" and f"`{flag}" not in text] == []


def test_a_nic_is_compared_within_a_round(load: Load) -> None:
    runs = {"dpdk": [10.0, 20.0, 20.0], "device": [20.0, 10.0, 40.0]}
    found = load("net").chosen(runs, best=False)
    assert found["rates"] == {"dpdk": 20.0, "device": 20.0}
    assert found["ratios"] == {"dpdk": 1.0, "device": 2.0}
    assert load("net").chosen(runs, best=True)["ratios"]["device"] == 2.0
    assert found["best"]["device"] == 2.0


def test_a_peer_that_moves_nothing_is_no_error(load: Load) -> None:
    net, report = load("net"), load("report")
    found = net.chosen({"dpdk": [0.0, 20.0], "device": [20.0, 10.0], "driver": [0.0, 0.0]}, best=False)
    assert (found["ratios"]["device"], found["best"]["device"]) == (0.5, 1.0)
    found = net.chosen({"dpdk": [0.0], "device": [2e6], "driver": [1e6]}, best=True)
    assert report._net({"one": found}).rows[0] == ("one", "0.00", "2.00", "", "", "1.00", "", "")
