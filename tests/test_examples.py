"""Each example runs as its reader would run it, and prints what its text promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

OUTPUT = {
    "async_device.py": ["finished: 200 400 600 800 1000"],
    "boot_guest.py": ["on ", "hello from the guest"],
    "custom_storage.py": ["1 TiB, read-only", "sector 123456789"],
    "drive_disk.py": ["1048576 bytes in blocks of 512", "b'hello'", "b'hippo'"],
    "faulty_disk.py": [
        "read 2: fine",
        "read 3: IN at byte 0: the device reports an I/O error",
        "read 4: fine",
    ],
    "first_device.py": ["HELLO"],
    "frame_handler.py": [
        "192.0.2.1 is at 52:54:00:c0:ff:ee",
        "ping answered: ping - checksum right: True",
    ],
    "packet_generator.py": [
        "52:54:00:",
        "3000 datagrams sent, 3000 came back, in order: True",
        "one frame over and over: 200000 sent, ",
    ],
    "resize_disk.py": ["before: 1048576", "the driver heard of: 4194304", "read back: new room"],
    "test_with_a_disk.py": [],  # collected by pytest itself
}
"""Lines of each example's output, or how they begin, in their order."""

MARKS = {"boot_guest.py": [pytest.mark.guest]}
MOST_LINES = 60


def run(name: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if result.returncode == 1 and "HostError" in result.stderr and "is not installed" in result.stderr:
        pytest.skip(result.stderr.splitlines()[-1])
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_all_examples_are_known() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(OUTPUT)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, [])) for name in OUTPUT if not name.startswith("test_")]
)
def test_what_an_example_prints(name: str) -> None:
    lines = iter(run(name).splitlines())
    for wanted in OUTPUT[name]:
        assert any(line.startswith(wanted) for line in lines), f"no further line begins with {wanted!r}"


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < MOST_LINES
