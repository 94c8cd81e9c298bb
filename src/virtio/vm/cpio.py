"""A writer of newc cpio archives, the format of a Linux initramfs.

An entry is a 110-byte ASCII header of hexadecimal fields, the name ended by a zero byte, and the content;
name and content are each padded to four bytes. Layout: the kernel's Documentation/driver-api/early-userspace/
buffer-format.rst.
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from typing import BinaryIO

__all__ = ["Archive"]

TRAILER = "TRAILER!!!"


class Archive:
    """Writes entries to ``stream`` in the order given; parent directories are made as they are needed.

    Everything belongs to root and has time stamp 0, so equal content gives equal bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inode = 0
        self._directories = {PurePosixPath(".")}

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory, unless it is there already."""
        name = _relative(path)
        if name not in self._directories:
            self._parents(name)
            self._directories.add(name)
            self._entry(str(name), stat.S_IFDIR | mode, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        name = _relative(path)
        self._parents(name)
        self._entry(str(name), stat.S_IFREG | mode, content)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link to ``target``."""
        name = _relative(path)
        self._parents(name)
        self._entry(str(name), stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node."""
        name = _relative(path)
        self._parents(name)
        self._entry(str(name), stat.S_IFCHR | mode, b"", device=(major, minor))

    def finish(self) -> None:
        """Write the end of the archive; nothing may follow."""
        self._inode = -1
        self._entry(TRAILER, 0, b"")

    def _parents(self, name: PurePosixPath) -> None:
        for parent in reversed(name.parents):
            self.directory(str(parent))

    def _entry(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        uid = gid = mtime = check = 0
        fields = (self._inode, mode, uid, gid, 1, mtime, len(content), 0, 0, *device, len(encoded), check)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._stream.write(_padded(header + encoded))
        self._stream.write(_padded(content))


def _relative(path: str) -> PurePosixPath:
    """Archive names have no leading slash."""
    name = PurePosixPath(path.lstrip("/"))
    if ".." in name.parts:
        raise ValueError(f"{path!r} leaves the archive")
    return name


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
