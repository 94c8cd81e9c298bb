"""The service keeps every byte under load while its file is evicted, grown and shrunk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from virtio.drivers import Blk
from virtio.errors import DeviceGoneError, HostError
from virtio.testing.integrity import IntegrityOptions, run_integrity
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


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "virtio.testing.integrity", "--requests", "2000", "--span", "4"]
    run = subprocess.run(
        [*command, "--directory", tmp_path, "--disk", "map=off"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("sound\n") == 2
    assert run.stdout.count("wrong: none; 0 errors") == 2
    assert list(tmp_path.iterdir()) == []
