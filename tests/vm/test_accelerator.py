from __future__ import annotations

import time
from pathlib import Path

import pytest

from virtio.vm import accelerator, programs


def fake_qemu(path: Path, script: str) -> str:
    program = path / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/kvm that opens; the verdicts are remembered for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "kvm"
    path.touch()
    monkeypatch.setattr(accelerator, "KVM_DEVICE", str(path))
    return path


@pytest.mark.peer
def test_the_trial_machine_reaches_64_bit_mode() -> None:
    program = programs.locate("qemu-system-x86_64")
    if program is None:
        pytest.skip("QEMU is not installed")
    assert accelerator.try_accelerator(program, "tcg") == ""


def test_without_kvm(device: Path, tmp_path: Path) -> None:
    device.unlink()
    found = accelerator.choose("/bin/true")
    assert (found.name, found.processor) == ("tcg", "max")
    assert found.reason == f"TCG, because {device} is not there"


def test_kvm_that_may_not_be_opened(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert accelerator.choose("/bin/true").reason == f"TCG, because {device} may not be opened by this user"


def test_kvm_that_works(device: Path, tmp_path: Path) -> None:
    found = accelerator.choose(fake_qemu(tmp_path, f"exit {accelerator.TRIAL_STATUS}"))
    assert (found.name, found.processor) == ("kvm", "host")


def test_kvm_that_lacks_something_and_the_verdict_is_remembered(device: Path, tmp_path: Path) -> None:
    program = fake_qemu(
        tmp_path, f"echo >>{tmp_path}/runs; echo 'qemu: warning: no such feature' >&2; exit 1"
    )
    for _ in range(2):
        found = accelerator.choose(program)
        assert found.reason == "TCG, because KVM does not work here: no such feature"
    assert (tmp_path / "runs").read_text() == "\n"


def test_kvm_that_crawls(device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "TRIAL_SECONDS", 0.2)
    started = time.monotonic()
    found = accelerator.choose(fake_qemu(tmp_path, "exec sleep 10"))
    assert found.reason.endswith("a trial machine did not reach 64-bit mode within 0.2 s")
    assert time.monotonic() - started < 8


def test_kvm_that_ends_without_a_word(device: Path, tmp_path: Path) -> None:
    assert accelerator.choose(fake_qemu(tmp_path, "exit 7")).reason.endswith("ended with status 7")
