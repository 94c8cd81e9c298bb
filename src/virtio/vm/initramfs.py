"""Builds the initial file system of a guest: busybox, kernel modules, an init, files of the host."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from virtio.errors import HostError, UsageError
from virtio.vm import cache, programs
from virtio.vm.cpio import Archive
from virtio.vm.kernels import Kernel
from virtio.vm.modules import module_name

__all__ = ["HostFile", "Initramfs", "host_files"]

INIT = Path(__file__).with_name("init.sh")
DIRECTORIES = ("/dev", "/proc", "/sys", "/run", "/tmp", "/mnt", "/root")
ETC = {
    "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "/etc/group": b"root:x:0:\n",
    "/etc/mtab": b"",
}
ON_DEMAND = ("ext4", "vfat", "nls_ascii", "nls_cp437", "xfs", "loop")
"""Modules that are worth their place: the kernel asks modprobe for them when a file system is mounted."""


@dataclass(frozen=True, order=True)
class HostFile:
    """A file of the host, and where it appears in the guest."""

    guest: str
    host: str


@dataclass(frozen=True)
class Initramfs:
    """What goes into one; :meth:`path` gives the archive, from the cache when it was built before."""

    kernel: Kernel
    modules: tuple[str, ...] = ()
    files: tuple[HostFile, ...] = ()
    busybox: str = field(default_factory=lambda: _static_busybox())

    def path(self) -> Path:
        """The archive on disk. Raises HostError when something it needs is missing."""
        return cache.cached_file(f"initramfs-{self.key()}.cpio", self.write)

    def key(self) -> str:
        """Equal keys mean equal archives: files count by path, inode, size and time of change."""
        tree = self.kernel.modules
        sources = [str(INIT), __file__, self.busybox, str(tree.directory / "modules.dep")]
        identity = [
            tree.release,
            self._boot_modules(),
            [(file.guest, file.host) for file in self.files],
            [_identity(path) for path in (*sources, *(file.host for file in self.files))],
        ]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]

    def write(self, stream: BinaryIO) -> None:
        """Write the archive to ``stream``."""
        archive = Archive(stream)
        for directory in DIRECTORIES:
            archive.directory(directory)
        # The kernel opens it for init before devtmpfs is mounted.
        archive.character_device("/dev/console", 5, 1)
        archive.file("/init", INIT.read_bytes(), 0o755)
        for path, content in ETC.items():
            archive.file(path, content)
        self._write_modules(archive)
        provided = {file.guest for file in self.files}
        for file in sorted(set(self.files)):
            _write_host_file(archive, file)
        self._write_busybox(archive, provided)
        archive.finish()

    def _boot_modules(self) -> list[str]:
        return self.kernel.modules.resolve(self.modules)

    def _write_modules(self, archive: Archive) -> None:
        tree = self.kernel.modules
        at_boot = self._boot_modules()
        everything = list(dict.fromkeys(at_boot + tree.resolve(tree.available(ON_DEMAND))))
        root = f"/lib/modules/{tree.release}"
        # Decompressed, hence without the suffix that modules.dep may have.
        plain = {path: path[: path.index(".ko") + 3] for path in everything}
        for path in everything:
            archive.file(f"{root}/{plain[path]}", tree.read(path))
        table = (tree.dependencies[module_name(path)] for path in everything)
        lines = (f"{plain[path]}: {' '.join(plain[one] for one in needed)}\n" for path, needed in table)
        archive.file(f"{root}/modules.dep", "".join(lines).encode())
        archive.file(f"{root}/modules.alias", tree.aliases(everything).encode())
        archive.file("/etc/modules-boot", "".join(plain[path] + "\n" for path in at_boot).encode())

    def _write_busybox(self, archive: Archive, provided: set[str]) -> None:
        """Busybox and a link per applet, except where a file of the host takes that name."""
        archive.file("/bin/busybox", Path(self.busybox).read_bytes(), 0o755)
        listing = subprocess.run([self.busybox, "--list-full"], capture_output=True, text=True, check=True)
        taken = {os.path.basename(path) for path in provided}
        for applet in listing.stdout.split():
            if os.path.basename(applet) not in taken and applet != "bin/busybox":
                archive.symlink("/" + applet, "/bin/busybox")


def host_files(wanted: Sequence[str | os.PathLike[str]] | Mapping[str, str]) -> tuple[HostFile, ...]:
    """Files of the host with the shared libraries they need.

    ``wanted`` is a list of programs (``"mkfs.ext4"``) and paths, which keep their path in the guest, or a
    mapping from host path to guest path. Directories come with all they contain. Raises HostError for a
    file that is missing and UsageError for a guest path that is not absolute.
    """
    pairs = wanted.items() if isinstance(wanted, Mapping) else ((os.fspath(item), None) for item in wanted)
    found: dict[str, HostFile] = {}
    for host, guest in pairs:
        for file in _expand(_find(host), guest):
            for one in (file, *(HostFile(library, library) for library in programs.libraries(file.host))):
                found.setdefault(one.guest, one)
    return tuple(sorted(found.values()))


def _find(name: str) -> str:
    path = os.path.abspath(name) if os.sep in name or os.path.exists(name) else programs.locate(name)
    if path is None or not os.path.exists(path):
        raise HostError(f"{name} is not on this machine, so it cannot be put into the guest")
    if not os.access(path, os.R_OK):
        raise HostError(f"{path} may not be read by this user, so it cannot be put into the guest")
    return path


def _expand(host: str, guest: str | None) -> list[HostFile]:
    guest = host if guest is None else guest
    if not guest.startswith("/"):
        raise UsageError(f"{guest!r} is not an absolute path in the guest")
    if not os.path.isdir(host):
        return [HostFile(guest, host)]
    inside = (path for path in sorted(Path(host).rglob("*")) if path.is_file())
    return [HostFile(f"{guest.rstrip('/')}/{path.relative_to(host)}", str(path)) for path in inside]


def _write_host_file(archive: Archive, file: HostFile) -> None:
    source = Path(file.host)
    archive.file(file.guest, source.read_bytes(), source.stat().st_mode & 0o777)


def _identity(path: str) -> tuple[str, int, int, int, int]:
    status = os.stat(path)
    return path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode


def _static_busybox() -> str:
    path = programs.require("busybox", "busybox-static")
    if programs.interpreter(Path(path)) is not None:
        raise HostError(f"{path} is not statically linked", fix="apt install busybox-static")
    return path
