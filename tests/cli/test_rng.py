"""``virtio rng`` as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtio.drivers import Entropy
from virtio.errors import VirtioError

Start = Callable[..., Any]


def virtio(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "virtio.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_random_numbers(start: Start, tmp_path: Path) -> None:
    at = str(tmp_path / "s")
    service = start("rng", "-s", at, said="others:")
    assert f"random numbers of the kernel's generator, at {at}" in service.said
    assert f"path={at} -device vhost-user-rng-pci,chardev=c0" in service.said
    with Entropy.connect(at) as source:
        assert len({bytes(source.read(64)) for _ in range(4)}) == 4
    assert service.stop() == 0


def test_a_source_that_comes_to_its_end(start: Start, tmp_path: Path) -> None:
    """The guest gets what there is; the service says what happened, in a line."""
    at, source = str(tmp_path / "s"), tmp_path / "source"
    source.write_bytes(b"not random")
    service = start("rng", "--filename", source, "--socket-path", at, said="others:")
    with Entropy.connect(at) as entropy:
        assert entropy.read(10) == b"not random"
        with pytest.raises(VirtioError):
            entropy.read(1)
        service.wait_said(f"random source {source} has come to its end [E-HOST]")
    assert "Traceback" not in service.said


def test_a_ration(start: Start, tmp_path: Path) -> None:
    at = str(tmp_path / "s")
    start("rng", "-s", at, "-m", 16, "-p", 100, said="others:")
    with Entropy.connect(at) as source:
        assert len(source.read(40)) == 40


def test_what_cannot_be(tmp_path: Path) -> None:
    done = virtio("rng", "-f", str(tmp_path / "none"), "-s", str(tmp_path / "s"))
    assert done.returncode == 4
    assert f"random source {tmp_path / 'none'}: No such file or directory [E-HOST]" in done.stderr
    assert virtio("rng", "-m", "0").returncode == 2
    assert virtio("rng", "-p", "soon").returncode == 2
    assert virtio("rng", "extra").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_capabilities() -> None:
    done = virtio("rng", "--print-capabilities")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"type": "rng", "features": []})
