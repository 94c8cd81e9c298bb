"""Kernel modules of a release: which files a module needs, in which order, and their bytes."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from virtio.errors import HostError

__all__ = ["ModuleTree", "module_name"]

SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")


@dataclass(frozen=True)
class ModuleTree:
    """The modules below ``directory``, which holds ``modules.dep``: ``/lib/modules/RELEASE`` or its like."""

    directory: Path
    package: str = field(default="", compare=False)

    @property
    def release(self) -> str:
        """The kernel release these modules belong to, as ``uname -r`` gives it."""
        return self.directory.name

    @cached_property
    def dependencies(self) -> dict[str, tuple[str, list[str]]]:
        """``modules.dep`` by module name: the module's file, and the files it needs, nearest first."""
        found = {}
        for line in self._text("modules.dep").splitlines():
            path, _, needed = line.partition(":")
            found[module_name(path)] = (path, needed.split())
        return found

    @cached_property
    def builtin(self) -> frozenset[str]:
        """Names of the modules that the kernel itself contains."""
        return frozenset(module_name(line) for line in self._text("modules.builtin").splitlines())

    def resolve(self, names: tuple[str, ...]) -> list[str]:
        """Files of the modules ``names`` and all they need, relative to the directory, in loading order.

        Modules that the kernel contains need no file. Raises HostError for a module the release lacks.
        """
        ordered: dict[str, None] = {}
        for name in map(module_name, names):
            if name in self.dependencies:
                path, needed = self.dependencies[name]
                ordered.update(dict.fromkeys([*reversed(needed), path]))
            elif name not in self.builtin:
                raise HostError(
                    f"kernel {self.release} has no module {name}",
                    fix=f"install all modules of this kernel ({self.package})" if self.package else None,
                )
        return list(ordered)

    def available(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``names`` that are modules of this release."""
        return tuple(name for name in names if module_name(name) in self.dependencies)

    def aliases(self, paths: list[str]) -> str:
        """The lines of ``modules.alias`` about the modules in ``paths``."""
        names = set(map(module_name, paths))
        lines = self._text("modules.alias").splitlines()
        return "".join(line + "\n" for line in lines if module_name(line.rpartition(" ")[2]) in names)

    def read(self, path: str) -> bytes:
        """The module's ELF image, decompressed."""
        return _decompress(self.directory / path)

    def _text(self, name: str) -> str:
        path = self.directory / name
        try:
            return path.read_text()
        except FileNotFoundError:
            raise HostError(
                f"{path} is missing, so the modules of kernel {self.release} cannot be found",
                fix=f"run depmod {self.release} as root, or reinstall {self.package or 'the kernel'}",
            ) from None


def module_name(path: str) -> str:
    """A module's name from its file, or any spelling: ``kernel/a/virtio-rng.ko.xz`` is ``virtio_rng``."""
    base = path.rpartition("/")[2]
    for suffix in SUFFIXES:
        base = base.removesuffix(suffix)
    return base.replace("-", "_")


def _decompress(path: Path) -> bytes:
    data = path.read_bytes()
    match path.suffix:
        case ".gz":
            return gzip.decompress(data)
        case ".xz":
            return lzma.decompress(data)
        case ".zst":
            return _unzstd(data, path)
        case _:
            return data


def _unzstd(data: bytes, path: Path) -> bytes:
    """Python has no zstd before 3.14: the zstd program, which distributions with such modules install."""
    program = shutil.which("zstd")
    if program is None:
        raise HostError(f"{path} is compressed and there is no zstd program", fix="apt install zstd")
    return subprocess.run([program, "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout
