"""Programs of the host: where they are, and the shared libraries they run with."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from virtio.errors import HostError

__all__ = ["interpreter", "libraries", "locate", "require"]

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PT_INTERP = 3


def locate(name: str) -> str | None:
    """Path of the program ``name``, also where only root's PATH leads; None when there is none."""
    return shutil.which(name) or shutil.which(name, path=SEARCH_PATH)


def require(name: str, package: str) -> str:
    """Path of the program ``name``; HostError naming the Debian package when it is missing."""
    path = locate(name)
    if path is None:
        raise HostError(f"the program {name} is not installed", fix=f"apt install {package}")
    return path


def libraries(path: str) -> list[str]:
    """The loader and every shared library that the program at ``path`` needs, as the loader resolves them.

    Empty for scripts and static programs. Raises HostError when a library is missing.
    """
    loader = interpreter(Path(path))
    if loader is None:
        return []
    listing = subprocess.run([loader, "--list", path], capture_output=True, text=True, check=False)
    if listing.returncode != 0 or "not found" in listing.stdout:
        detail = (listing.stderr or listing.stdout).strip()
        raise HostError(f"shared libraries of {path} cannot be resolved: {detail}")
    words = (word for line in listing.stdout.splitlines() for word in line.split())
    return [loader, *(word for word in words if word.startswith("/") and word != loader)]


def interpreter(path: Path) -> str | None:
    """The dynamic loader that a 64-bit little-endian ELF program names in PT_INTERP."""
    with path.open("rb") as program:
        header = program.read(64)
        if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
            return None
        offset, entry_size, count = _program_headers(header)
        for index in range(count):
            program.seek(offset + index * entry_size)
            entry = program.read(56)
            if len(entry) == 56 and struct.unpack_from("<I", entry)[0] == PT_INTERP:
                start, size = struct.unpack_from("<Q", entry, 8)[0], struct.unpack_from("<Q", entry, 32)[0]
                program.seek(start)
                return os.fsdecode(program.read(size).rstrip(b"\0"))
    return None


def _program_headers(header: bytes) -> tuple[int, int, int]:
    """e_phoff, e_phentsize and e_phnum of an ELF64 header."""
    return (struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54))
