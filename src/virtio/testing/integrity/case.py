"""One way of serving a file, and what became of the file: a service, interference, a run."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from virtio.drivers import Blk
from virtio.errors import HostError, VirtioError
from virtio.spec.blk import SECTOR_SIZE
from virtio.testing.cgroup import MemoryGroup, memory_group
from virtio.testing.integrity.run import IntegrityOptions, IntegrityResult, run_integrity
from virtio.testing.integrity.service import bytes_by_calls, served
from virtio.testing.integrity.trouble import Report, trouble

__all__ = ["MIB", "QUEUES", "Case", "Outcome", "run_case"]

MIB = 1 << 20
QUEUES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How a file is served and what is done to it.

    ``query`` is of the file's URL, ``memory_limit`` in bytes (None: as much memory as there is); ``calm``
    leaves the file alone. ``options.span`` bytes are tested, of a file in ``directory``.
    """

    name: str
    options: IntegrityOptions
    directory: Path
    ring: str = "split"
    cache: str = "writeback"
    query: str = ""
    memory_limit: int | None = None
    calm: bool = False

    @property
    def span(self) -> int:
        """Bytes that are tested."""
        assert self.options.span is not None
        return self.options.span


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: ``by_calls`` counts the bytes that the service read and wrote by system calls.

    ``refaults`` counts pages taken away for want of memory and wanted again. ``unlimited`` says why memory
    was not limited although it was to be.
    """

    result: IntegrityResult
    report: Report
    by_calls: tuple[int, int]
    refaults: int = 0
    unlimited: str | None = None
    shares: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        """Which parts of the bytes went through the mapping or io_uring, not through calls."""
        sectors = (self.result.sectors_checked, self.result.sectors_written)
        read, written = (
            max(0.0, 1 - calls / (count * SECTOR_SIZE)) if count else 0.0
            for count, calls in zip(sectors, self.by_calls, strict=True)
        )
        object.__setattr__(self, "shares", (read, written))


def run_case(case: Case) -> Outcome:
    """HostError if the service does not start or does not fit into its memory; else as `run_integrity`."""
    unlimited = None
    with ExitStack() as stack:
        group = None
        if case.memory_limit is not None:
            try:
                group = stack.enter_context(memory_group(case.memory_limit))
            except HostError as error:
                unlimited = str(error)
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="virtio-integrity-", dir=case.directory))
        )
        try:
            result, report, by_calls = _serve(case, folder, group)
        except VirtioError as error:
            if group is not None and group.kills:
                raise HostError(
                    f"the service's own memory does not fit into {group.limit // MIB} MiB",
                    fix="give it more (--memory-limit)",
                ) from error
            raise
        return Outcome(result, report, by_calls, group.refaults if group else 0, unlimited)


def _serve(
    case: Case, folder: Path, group: MemoryGroup | None
) -> tuple[IntegrityResult, Report, tuple[int, int]]:
    path, socket = folder / "disk.img", folder / "disk.sock"
    path.touch()
    os.truncate(path, case.span)
    url = f"file:{path}?{case.query}" if case.query else str(path)
    flags = ("--num-queues", str(QUEUES), "--cache", case.cache)
    with (
        served(url, socket, *flags, say=False, group=group) as service,
        Blk.connect(str(socket), num_queues=QUEUES, queue_size=256, packed=case.ring == "packed") as disk,
    ):
        with ExitStack() as stack:
            report = Report()
            if not case.calm:
                report = stack.enter_context(trouble(path, case.span, service=service.pid))
            result = run_integrity(disk, case.options)
        return result, report, bytes_by_calls(service.pid)
