"""Interferes with a disk's file while it is served, as a process of its own, until its input ends.

Page cache is dropped, and the file grows and shrinks beyond the span that is tested; after each change of
size the service is told to look (SIGHUP). Says at the end what it did, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from virtio.testing.page_cache import page_cache

__all__ = ["Report", "trouble"]


BURST = 12  # acts


@dataclass
class Report:
    """How often each was done, and how many pages were seen to leave the cache."""

    drops: int = 0
    pages_evicted: int = 0
    grown: int = 0
    shrunk: int = 0


@contextmanager
def trouble(path: Path, keep: int, *, service: int, pause: float = 0.01) -> Iterator[Report]:
    """Have it going on; the report is filled in at the end. ``keep`` bytes always stay in the file."""
    command = [sys.executable, "-m", __name__, str(path), str(keep), str(service), str(pause)]
    report = Report()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield report
        finally:
            said, _ = process.communicate(timeout=30)
    for name, value in json.loads(said).items():
        setattr(report, name, value)


class Troublemaker:
    """What is done to one file."""

    def __init__(self, fd: int, keep: int, service: int) -> None:
        self.report = Report()
        self._fd = fd
        self._keep = keep
        self._service = service
        self._acts = 0
        self._dice = random.Random(keep)

    def rest(self, pause: float) -> float:
        """Seconds to the next act: many follow soon, then there is peace, for caches to warm."""
        self._acts += 1
        return pause if self._acts % BURST else 100 * pause

    def act(self) -> None:
        """One thing or the other."""
        if self._dice.randrange(4):
            self._drop()
        else:
            self._resize()

    def _drop(self) -> None:
        before = page_cache(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        after = page_cache(self._fd)
        self.report.drops += 1
        if before is not None and after is not None:
            self.report.pages_evicted += max(before.cached - after.cached, 0)

    def _resize(self) -> None:
        """Mostly in whole pages, sometimes in the middle of one."""
        size = self._keep + self._dice.randrange(4096) * 4096 + self._dice.choice((0, 0, 512, 1000))
        before = os.fstat(self._fd).st_size
        os.ftruncate(self._fd, size)
        if size > before:
            self.report.grown += 1
        else:
            self.report.shrunk += 1
        os.kill(self._service, signal.SIGHUP)


def main() -> None:
    """Until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("keep", type=int)
    parser.add_argument("service", type=int)
    parser.add_argument("pause", type=float)
    arguments = parser.parse_args()
    fd = os.open(arguments.file, os.O_RDWR)
    maker = Troublemaker(fd, arguments.keep, arguments.service)
    maker.act()
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], maker.rest(arguments.pause))[0]:
        maker.act()
    print(json.dumps(asdict(maker.report)))


if __name__ == "__main__":
    main()
