"""``virtio demo`` as a person and as a program sees it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from virtio.vm import programs

GUEST_SECONDS = 200
"""Three guests one after the other, on a machine that has other things to do."""
DEMO = [sys.executable, "-m", "virtio.cli", "demo", "--seconds", "0.3"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, env = [*DEMO, *arguments], os.environ | environment
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=GUEST_SECONDS, check=False
    )


def test_without_guests() -> None:
    done = run("--no-guest")
    assert (done.returncode, done.stderr) == (0, "")
    for said in ("256 MiB", "the same (sha256 ", "all data read was right", "requests/s (random reads"):
        assert said in done.stdout
    assert done.stdout.endswith("1 of 1 worked.\n")
    assert "\x1b" not in done.stdout


def test_as_json() -> None:
    done = run("--no-guest", "--json")
    (act,) = json.loads(done.stdout)
    assert (act["name"], act["outcome"]) == ("direct", "ok")
    assert act["figures"]["read_iops"] > 1000
    assert "1 of 1 worked." in done.stderr


def test_plain_progress_comes_line_by_line() -> None:
    done = run("--no-guest", "--seconds", "1.3")
    assert "load" in done.stderr
    assert done.stderr.count("requests/s\n") >= 2


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_sees_it_live(colour: bool) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | ({} if colour else {"NO_COLOR": "1"})
    command = [*DEMO, "--no-guest"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # how a terminal says that its other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert seen.count(b"\r\x1b[K") > 3
    assert "━".encode() in seen
    assert (b"\x1b[32m" in seen) is colour
    assert seen.endswith(b"\r\x1b[K"), "the live line is taken away at the end"


def test_hypervisors_that_are_missing_are_named(tmp_path: Path) -> None:
    script = tmp_path / "demo.py"
    script.write_text(
        "import sys\n"
        "from virtio.vm import programs\n"
        "found = programs.locate\n"
        "programs.locate = lambda name: None if 'linux.uml' in name or 'qemu' in name else found(name)\n"
        "from virtio.cli.app import run\n"
        "sys.exit(run(['demo', '--seconds', '0.1']))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "apt install user-mode-linux" in done.stdout
    assert "apt install qemu-system-x86" in done.stdout
    assert done.stdout.endswith("1 of 4 worked; 3 skipped: this machine lacks something.\n")


def test_options_that_contradict() -> None:
    assert run("--no-guest", "--uml").returncode == 2


@pytest.mark.guest
def test_interrupted_it_leaves_nothing_behind(tmp_path: Path) -> None:
    if programs.locate("linux.uml") is None:
        pytest.skip("linux.uml is not installed")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*DEMO, "--uml"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while "2. User-Mode Linux" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in said) == (130, False)
    deadline = time.monotonic() + 5
    while left := list(tmp_path.iterdir()):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.guest
@pytest.mark.timeout(GUEST_SECONDS + 20)
@pytest.mark.parametrize(("option", "program"), [("--uml", "linux.uml"), ("--qemu", "qemu-system-x86_64")])
def test_with_a_guest(option: str, program: str, tmp_path: Path) -> None:
    if programs.locate(program) is None:
        pytest.skip(f"{program} is not installed")
    done = run(option, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "by the kernel's driver virtio_blk" in done.stdout
    assert "e2fsck in the guest finds no error" in done.stdout
    assert "all 10 checksums agree with the guest's" in done.stdout
    assert "eth0 in each, by the kernel's driver virtio_net" in done.stdout
    assert "5 of 5 answered" in done.stdout
    assert "by HTTP in" in done.stdout
    assert "frames" in done.stdout
    assert done.stdout.endswith("3 of 3 worked.\n")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
