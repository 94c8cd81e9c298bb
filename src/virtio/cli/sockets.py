"""Where a back-end listens when nobody says: a path that is the same every time, in a directory of ours."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from virtio.errors import HostError

__all__ = ["default_path"]

LONGEST_NAME = 40
"""Characters of a name: with the directory it must stay under the 107 bytes of a socket's path."""


def default_path(kind: str, name: str = "") -> str:
    """The socket of a back-end of ``kind`` for ``name``: in $XDG_RUNTIME_DIR or the temporary directory.

    Characters that hypervisors' option syntaxes use are replaced. HostError if the directory is not ours.
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[-LONGEST_NAME:]
    return str(_directory() / ("-".join(filter(None, (kind, plain))) + ".sock"))


def _directory() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        directory = Path(runtime, "virtio")
    else:
        directory = Path(os.environ.get("TMPDIR") or "/tmp", f"virtio-{os.getuid()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = os.stat(directory, follow_symlinks=False)
    except OSError as error:
        raise HostError(
            f"cannot make {directory} for a socket: {error.strerror}", fix="choose the path: --socket-path"
        ) from error
    # In a directory that all may write to, somebody else may have been first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise HostError(f"{directory} is open to other users", fix="choose the path: --socket-path")
    return directory
