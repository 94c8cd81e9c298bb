"""Reads the files of an ext4 image on the host, without mounting it and without privileges."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from virtio.errors import DeviceError
from virtio.vm import programs

__all__ = ["checksums", "parse_sums", "require_debugfs"]


def require_debugfs() -> str:
    """Path of debugfs; HostError when it is not installed."""
    return programs.require("debugfs", "e2fsprogs")


def checksums(debugfs: str, image: Path, target: Path) -> dict[str, str]:
    """SHA-256 of each regular file in ``image``, by its path there; copies are left in ``target``.

    DeviceError when debugfs finds no file system in it.
    """
    target.mkdir()
    # Told to copy everything, it also wants to give the copies to root: that may fail, the bytes do not.
    command = [debugfs, "-R", f"rdump / {target}", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    files = [path for path in sorted(target.rglob("*")) if path.is_file() and not path.is_symlink()]
    if done.returncode != 0 or not files:
        raise DeviceError(f"the host finds no files in the image: {done.stderr.strip()}")
    return {f"./{path.relative_to(target)}": _sha256(path) for path in files}


def parse_sums(text: str) -> dict[str, str]:
    """What sha256sum prints, as checksums by path."""
    lines = (line.split(maxsplit=1) for line in text.splitlines())
    return {path: checksum for checksum, path in lines}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
