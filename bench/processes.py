"""What Linux says of a running process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LISTENING = 0x10000  # __SO_ACCEPTCON, in the flags column of /proc/net/unix


def cpu_seconds(pid: int) -> float:
    """Processor time of all its threads, user and system, ended ones too."""
    # The clock of a process by its number, as clock_getcpuclockid makes it: to the nanosecond, unlike /proc.
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int, field: str) -> int:
    """Bytes, of a field of /proc/PID/status such as RssAnon or VmRSS."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"process {pid} has no {field}")


def innermost(pid: int) -> int:
    """The program that a chain of wrappers ended up starting: the last child of a child."""
    while children := _children(pid):
        pid = children[-1]
    return pid


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    children = _children(pid)
    return children + [one for child in children for one in descendants(child)]


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def is_listening(path: str) -> bool:
    """Whether a unix socket at ``path`` takes connections. Found out without making one."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[-1] == path and int(fields[3], 16) & LISTENING:
            return True
    return False


def pinned(cores: Sequence[int]) -> None:
    """Keep this process, and what it starts, on these processors. For `subprocess`: between fork and exec."""
    os.sched_setaffinity(0, cores)


@contextmanager
def real_time(*pids: int) -> Iterator[None]:
    """Let these processes' threads run before all others for the time of the block. For root."""
    threads = [(pid, int(name)) for pid in pids for name in os.listdir(f"/proc/{pid}/task")]
    for pid, thread in threads:
        # Who takes commands and the time, before those that are busy all the time.
        priority = 2 if pid == os.getpid() or thread == pid else 1
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    try:
        yield
    finally:
        for _, thread in threads:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
