"""Which qemu-storage-daemon is compared with: the newest that is installed, or the one that is named."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from glob import glob
from pathlib import Path

PROGRAM = "qemu-storage-daemon"
ELSEWHERE = ("/usr/local/bin", "/usr/bin", "/opt/*/bin", "/usr/libexec")


def version_line(command: str) -> str | None:
    """What it says of its version; None if it does not run."""
    try:
        done = subprocess.run(
            [*shlex.split(command), "--version"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0] if done.stdout else ""


def version_of(line: str) -> tuple[int, ...]:
    """(11, 1, 3) of a line that says so; (0,) of one that does not."""
    found = re.search(r"\d+(?:\.\d+)+", line)
    return tuple(map(int, found[0].split("."))) if found else (0,)


def candidates() -> list[str]:
    """The programs of that name in PATH, and where newer ones are put by hand."""
    folders = [
        *os.environ.get("PATH", "").split(":"),
        *(folder for each in ELSEWHERE for folder in glob(each)),
    ]
    paths = dict.fromkeys(Path(folder or ".") / PROGRAM for folder in folders)
    return [str(path) for path in paths if os.access(path, os.X_OK)]


def newest() -> str | None:
    """The command of the newest that runs; None if there is none."""
    found = [(version_of(line), each) for each in candidates() if (line := version_line(each)) is not None]
    return max(found)[1] if found else None


def chosen(command: str | None) -> str | None:
    """``command`` if one is given and runs, the newest otherwise. SystemExit for one that does not run."""
    if command is None:
        return newest()
    if version_line(command) is None:
        raise SystemExit(f"{command} --version fails: which qemu-storage-daemon is meant?")
    return command
