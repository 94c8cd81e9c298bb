"""A control group that gives a process little memory, so that the kernel takes its pages away all the time.

A child of the group that we are in, or of one above it that hands the memory controller on: version 2 forbids
children with controllers beside processes. It is gone when its time is over. Version 1 serves as well, where
the memory controller is mounted that way.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from virtio.errors import HostError

__all__ = ["Hierarchy", "MemoryGroup", "hierarchies", "memory_group"]

PATIENCE = 10.0  # seconds until a group that was left is empty
LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
EVENTS = {1: "memory.oom_control", 2: "memory.events"}
ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted tree of groups that can limit memory: version 1 or 2, its top, our place in it."""

    version: int
    top: Path
    ours: Path

    def parents(self) -> Iterator[Path]:
        """Groups below which one with a memory limit may be made, the nearest first."""
        if self.version == 1:
            yield self.ours
            return
        for group in (self.ours, *self.ours.parents):
            if "memory" in _read(group / "cgroup.subtree_control").split():
                yield group
            if group == self.top:
                return


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A group with a limit, in bytes."""

    path: Path
    version: int
    limit: int

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs another in this group, with the same process id."""
        return ["/bin/sh", "-c", ENTER, str(self.path), *command]

    @property
    def refaults(self) -> int:
        """Pages of files that were taken away and wanted again soon after."""
        numbers = _numbers(self.path / "memory.stat")
        return numbers.get("workingset_refault_file", numbers.get("workingset_refault", 0))

    @property
    def kills(self) -> int:
        """Processes killed because their own memory did not fit."""
        return _numbers(self.path / EVENTS[self.version]).get("oom_kill", 0)


@contextmanager
def memory_group(limit: int, *, among: Sequence[Hierarchy] | None = None) -> Iterator[MemoryGroup]:
    """A group of ``limit`` bytes, without processes; those in it at the end are killed.

    HostError where none can be made: no memory controller, or not ours to use.
    """
    group = _make(limit, hierarchies() if among is None else among)
    try:
        yield group
    finally:
        _remove(group.path)


def hierarchies(proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """What is mounted, version 2 first."""
    places = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        places[controllers] = place
    found = []
    for line in (proc / "mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        root, mounted = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if kind == "cgroup2" and "" in places:
            found.append(_hierarchy(2, mounted, root, places[""]))
        elif kind == "cgroup" and "memory" in options.split(","):
            place = next((at for names, at in places.items() if "memory" in names.split(",")), "/")
            found.append(_hierarchy(1, mounted, root, place))
    return sorted(found, key=lambda hierarchy: -hierarchy.version)


def _hierarchy(version: int, mounted: str, root: str, place: str) -> Hierarchy:
    """Of a tree that may be mounted in part, as in a container."""
    top = Path(mounted)
    inner = place.removeprefix(root) if root != "/" else place
    ours = top / inner.lstrip("/")
    return Hierarchy(version, top, ours if ours.is_dir() else top)


def _make(limit: int, among: Sequence[Hierarchy]) -> MemoryGroup:
    why = "no memory controller is mounted or handed on"
    for hierarchy in among:
        for parent in hierarchy.parents():
            try:
                return _make_below(parent, hierarchy.version, limit)
            except OSError as error:
                why = f"{parent}: {error.strerror}"
    raise HostError(f"no control group with little memory can be made ({why})", fix="run it as root")


def _make_below(parent: Path, version: int, limit: int) -> MemoryGroup:
    path = Path(tempfile.mkdtemp(prefix="virtio-", dir=parent))
    try:
        fd = os.open(path / LIMIT[version], os.O_WRONLY)  # never made by us: the kernel provides it or not
        with open(fd, "w") as file:
            file.write(str(limit))
    except BaseException:
        path.rmdir()
        raise
    return MemoryGroup(path, version, limit)


def _remove(path: Path) -> None:
    """Processes leave a group a little after they have ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            for pid in _read(path / "cgroup.procs").split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)
        else:
            return


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _numbers(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
