"""What Linux says of a running process."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
LISTENING = 0x10000  # __SO_ACCEPTCON, in the flags column of /proc/net/unix


def cpu_seconds(pid: int) -> float:
    """Processor time of all its threads, user and system, ended ones too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


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
