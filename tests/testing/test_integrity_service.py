"""The service keeps every byte under load while its file is evicted, grown and shrunk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virtio.drivers import Blk
from virtio.errors import DeviceGoneError, HostError
from virtio.testing.cgroup import memory_group
from virtio.testing.integrity import IntegrityOptions, IntegrityResult, run_integrity
from virtio.testing.integrity.case import Case, Outcome, run_case
from virtio.testing.integrity.modes import MODES, all_modes
from virtio.testing.integrity.report import in_full, in_one_line
from virtio.testing.integrity.service import served
from virtio.testing.integrity.trouble import Report, trouble
from virtio.testing.page_cache import page_cache

MIB = 1 << 20
SPAN = 32 * MIB


def interfere(
    folder: Path, requests: int, *, packed: bool, query: str = "", cache: str = "writeback"
) -> Report:
    path, socket = folder / "disk.img", folder / "disk.sock"
    path.touch()
    os.truncate(path, SPAN)
    url = f"file:{path}?{query}"
    with (
        served(url, socket, "--num-queues", "4", "--cache", cache, say=False) as service,
        Blk.connect(str(socket), num_queues=4, queue_size=256, packed=packed) as disk,
    ):
        with trouble(path, SPAN, service=service.pid, pause=0.005) as report:
            result = run_integrity(disk, IntegrityOptions(requests=requests, depth=48, span=SPAN))
        assert result.sound, result
        assert result.requests > requests
        assert report.drops + report.grown + report.shrunk > 0
    return report


@pytest.mark.stress
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_every_byte_through_the_mapping(tmp_path: Path, packed: bool) -> None:
    report = interfere(tmp_path, 200_000, packed=packed)
    assert report.drops > 0
    assert report.grown + report.shrunk > 0
    with (tmp_path / "disk.img").open("rb") as file:
        if page_cache(file.fileno()) is not None:
            assert report.pages_evicted > 0


@pytest.mark.stress
@pytest.mark.parametrize(
    ("requests", "query", "cache"),
    [(40_000, "map=off", "writeback"), (4_000, "", "writethrough"), (10_000, "", "none")],
)
def test_every_byte_other_ways(tmp_path: Path, requests: int, query: str, cache: str) -> None:
    interfere(tmp_path, requests, packed=False, query=query, cache=cache)


def test_a_service_that_dies_under_the_run_is_noticed(tmp_path: Path) -> None:
    path, socket = tmp_path / "disk.img", tmp_path / "disk.sock"
    with (
        served("mem:32M", socket, "--num-queues", "2") as service,
        Blk.connect(str(socket), num_queues=2, queue_size=128) as disk,
    ):
        timer = threading.Timer(0.3, os.kill, (service.pid, signal.SIGKILL))
        timer.start()
        with pytest.raises(DeviceGoneError):
            run_integrity(disk, IntegrityOptions(requests=1 << 40, depth=16))
        timer.join()
    assert not path.exists()


def test_a_service_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="ended at once"), served(str(tmp_path), tmp_path / "s", say=False):
        pass


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "virtio.testing.integrity", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path) -> None:
    size = ("--requests", "2000", "--span", "8")
    run = command(*size, "--directory", tmp_path, "--disk", "map=off", "--memory-limit", "64")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("sound\n") == 2
    assert run.stdout.count("wrong: none; 0 errors") == 2
    assert run.stdout.count("64 MiB of memory did not hold") + run.stdout.count("memory NOT limited") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_command_goes_through_all_modes(tmp_path: Path) -> None:
    size = ("--requests", "8000", "--span", "8", "--calm", "--ring", "packed")
    run = command(*size, "--directory", tmp_path, "--all-modes")
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"packed, {mode.name}" for mode in MODES]
    assert all(": sound, " in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_cannot_be_done(tmp_path: Path) -> None:
    run = command("--requests", "1", "--depth", "1000", "--directory", tmp_path, "--ring", "split")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("split, cache writeback: depth 1000 on queues")


# Which modes there are, and what is said of them.


def make_case(folder: Path, **settings: Any) -> Case:
    options = IntegrityOptions(requests=3000, depth=16, span=SPAN)
    return Case(name="some", options=options, directory=folder, calm=True, **settings)


def test_the_modes_share_the_requests(tmp_path: Path) -> None:
    pattern = replace(
        make_case(tmp_path), options=IntegrityOptions(requests=1_000_000, span=96 * MIB, seed=7)
    )
    cases = list(all_modes(pattern))
    assert sum(case.options.requests for case in cases) == 1_000_000
    assert {case.options.seed for case in cases} == set(range(7, 7 + len(MODES)))
    assert {(case.cache, case.query) for case in cases} == {
        ("writeback", ""), ("writeback", "map=off"), ("writethrough", ""), ("none", "")
    }  # fmt: skip
    assert {case.memory_limit for case in cases} == {None, 64 * MIB, 100 * MIB}
    assert {case.memory_limit for case in all_modes(pattern, 50 * MIB)} == {None, 50 * MIB}


def test_little_memory_takes_pages_away(tmp_path: Path) -> None:
    case = make_case(tmp_path, memory_limit=30 * MIB)
    try:
        with memory_group(30 * MIB):
            pass
    except HostError as error:
        pytest.skip(str(error))
    outcome = run_case(case)
    assert outcome.result.sound
    assert (outcome.unlimited, outcome.refaults > 1000) == (None, True)
    assert f"{outcome.refaults} pages read again that 30 MiB" in in_one_line(case, outcome)
    with pytest.raises(HostError, match="does not fit into 4 MiB"):
        run_case(replace(case, memory_limit=4 * MIB))
    assert list(tmp_path.iterdir()) == []


def test_memory_that_cannot_be_limited_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtio.testing.cgroup.hierarchies", list)
    case = make_case(tmp_path, memory_limit=30 * MIB)
    outcome = run_case(case)
    assert outcome.result.sound
    for text in (in_one_line(case, outcome), in_full(case, outcome)):
        assert "memory NOT limited: no control group" in text


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    result = IntegrityResult(10, 1.0, 2, 1, {"IN": 10}, 100, 0, {"stale": 3}, 512)
    case, outcome = make_case(tmp_path), Outcome(result, Report(), (51200, 0))
    for text in (in_one_line(case, outcome), in_full(case, outcome)):
        for part in ("NOT SOUND", "3 stale", "2 errors", "byte 512", "status is 1", "seed was 1", "0% "):
            assert part in text
