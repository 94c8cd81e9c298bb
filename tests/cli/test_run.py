from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from virtio.vm import programs

QCOW2 = b"QFI\xfb" + bytes(508)


def virtio(*arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "virtio.cli", "run", *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(params=["uml", "qemu"])
def kind(request: pytest.FixtureRequest) -> str:
    program = {"uml": "linux.uml", "qemu": "qemu-system-x86_64"}[request.param]
    if programs.locate(program) is None:
        pytest.skip(f"{program} is not installed")
    return f"--{request.param}"


@pytest.mark.guest
def test_output_and_status_are_handed_through_and_the_disk_is_written(kind: str, tmp_path: Path) -> None:
    image, note = tmp_path / "disk.img", tmp_path / "note"
    image.write_bytes(bytes(1 << 20))
    note.write_text("from the host")
    command = "cat /note; tr h H </note | dd of=/dev/vda conv=fsync 2>/dev/null; echo oops >&2; exit 7"
    done = virtio(kind, "--disk", str(image), "--file", f"{note}:/note", "--", command)
    assert (done.stdout, done.returncode) == ("from the host", 7)
    status, errors = done.stderr.split("\n", 1)
    assert status.startswith("virtio: ")
    assert errors == "oops\n"
    assert image.read_bytes().startswith(b"from tHe Host")


@pytest.mark.guest
def test_a_guest_with_two_processors_has_two_queues() -> None:
    done = virtio("--qemu", "--cpus", "2", "--disk", "mem:1M", script="nproc; ls /sys/block/vda/mq\n")
    assert (done.stdout.split(), done.returncode) == (["2", "0", "1"], 0)


@pytest.mark.guest
def test_a_script_on_standard_input_and_a_disk_to_read_only(kind: str) -> None:
    done = virtio(
        kind, "--disk", "mem:1M", "--read-only", script="cat /sys/block/vda/ro /sys/block/vda/size\n"
    )
    assert (done.stdout, done.returncode) == ("1\n2048\n", 0)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--boot"], 2, "nothing to boot from"),
        (["--initrd", "/i"], 2, "an initrd without a kernel"),
        (["--memory", "lots"], 2, "'lots' is not an amount of memory"),
        (["--cpus", "0"], 2, "0 is not in the range"),
        (["--file", "/no/such/file"], 4, "/no/such/file is not on this machine"),
        (["--disk", "/no/such/disk"], 4, "/no/such/disk"),
        (["--disk", "qcow2"], 4, "is a qcow2 image, and only raw images can be served"),
    ],
)
def test_what_cannot_be(
    arguments: list[str], status: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qcow2").write_bytes(QCOW2)
    done = virtio(*arguments, "--", "true")
    assert (done.returncode, done.stdout) == (status, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
