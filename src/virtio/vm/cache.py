"""The user's cache directory: files made once and named by what they were made from.

Writers never meet: each file is written under another name and renamed into place, and equal names hold
equal content. What nobody has used for a day goes when something new comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["cached_file", "cached_value", "directory"]

KEEP_SECONDS = 24 * 3600


def directory() -> Path:
    """``$XDG_CACHE_HOME/pyvirtio`` or ``~/.cache/pyvirtio``; without a writable home, one below ``/tmp``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for candidate in (Path(base, "pyvirtio"), Path(tempfile.gettempdir(), f"pyvirtio-cache-{os.getuid()}")):
        with contextlib.suppress(OSError):
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = candidate.stat().st_uid
            if owner == os.getuid() and os.access(candidate, os.W_OK | os.X_OK):
                return candidate
    return Path(tempfile.mkdtemp(prefix="pyvirtio-cache-"))


def cached_file(name: str, write: Callable[[BinaryIO], None]) -> Path:
    """The cached file ``name``, produced by ``write`` when it is not there yet."""
    path = directory() / name
    try:
        os.utime(path)
    except FileNotFoundError:
        _forget_unused(path.parent)
        _write_atomically(path, write)
    return path


def cached_value(name: str, compute: Callable[[], Any]) -> Any:
    """A small JSON value under ``name``; a damaged file is computed anew."""
    path = directory() / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    value = compute()
    _write_atomically(path, lambda stream: _write_json(stream, value))
    return value


def _write_json(stream: BinaryIO, value: Any) -> None:
    stream.write(json.dumps(value).encode())


def _write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _forget_unused(folder: Path) -> None:
    """A guest opens its files within seconds of asking for them, so a day without use is safe."""
    oldest = time.time() - KEEP_SECONDS
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
