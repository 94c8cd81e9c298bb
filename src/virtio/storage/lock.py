"""Keeping two programs from writing one disk: open-file-description locks that other users respect.

A writer locks the whole file exclusively, as Cloud Hypervisor does; it clashes with every lock on any byte.
A reader takes the bytes by which QEMU says "I read, and nobody may write or resize meanwhile" (QEMU's
permissions are byte 100 plus the permission's bit for what is done, 200 plus the bit for what is not
tolerated), so readers of all kinds get along and any writer is kept out.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from pathlib import Path

from virtio.errors import StorageLockedError

__all__ = ["holders", "lock"]

logger = logging.getLogger("virtio.storage")

# struct flock on 64-bit Linux: type, whence, start, length (0: to the end), pid.
FLOCK = struct.Struct("hhqqi4x")
DOING, EXCLUDING = 100, 200
READ, WRITE, RESIZE = 0, 1, 3


def lock(fd: int, name: str, *, exclusive: bool) -> None:
    """Lock the file behind ``fd`` until the last descriptor of this opening is closed. StorageLockedError."""
    try:
        if exclusive:
            _set(fd, fcntl.F_WRLCK, 0, 0)
            return
        for byte in (DOING + READ, EXCLUDING + WRITE, EXCLUDING + RESIZE):
            _set(fd, fcntl.F_RDLCK, byte, 1)
    except (BlockingIOError, PermissionError):
        raise _refusal(fd, name) from None
    except OSError as error:  # a file system without locks, as some network ones are
        logger.warning("%s is not locked: %s", name, error.strerror)
        return
    if _is_written(fd):
        raise _refusal(fd, name)


def _set(fd: int, kind: int, start: int, length: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, start, length, 0))


def _is_written(fd: int) -> bool:
    """Whether another user's lock says that it writes or resizes, or tolerates no reader."""
    for byte in (DOING + WRITE, DOING + RESIZE, EXCLUDING + READ):
        asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        kind, _, start, length, _ = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
        whole_file_reader = kind == fcntl.F_RDLCK and start == 0 and length == 0
        if kind != fcntl.F_UNLCK and not whole_file_reader:
            return True
    return False


def _refusal(fd: int, name: str) -> StorageLockedError:
    found = holders(fd)
    return StorageLockedError(f"{name} is in use by {', '.join(found) if found else 'another program'}")


def holders(fd: int) -> list[str]:
    """Who else holds a lock on the file behind ``fd``, as "NAME (process PID)", as far as /proc tells.

    The locks of an open file description name no process in /proc/locks, but the descriptors that belong to
    it show them in their fdinfo.
    """
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    found: dict[int, None] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _locks(process, device, fd):
            found[int(process.name)] = None
    return [f"{_command(pid)} (process {pid})" for pid in found]


def _locks(process: Path, device: str, own: int) -> bool:
    try:
        for info in (process / "fdinfo").iterdir():
            if int(process.name) == os.getpid() and int(info.name) == own:
                continue
            if any(line.startswith("lock:") and device in line for line in info.read_text().splitlines()):
                return True
    except OSError:
        pass  # gone meanwhile, or not ours to look at
    return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process"
