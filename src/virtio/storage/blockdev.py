"""What a host block device says about itself."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Limits", "limits"]

BLKSSZGET = 0x1268
BLKPBSZGET = 0x127B
BLKGETSIZE64 = 0x80081272


@dataclass(frozen=True)
class Limits:
    """All in bytes; ``discard_max`` is 0 where the device does not discard."""

    size: int
    logical_block_size: int
    physical_block_size: int
    discard_granularity: int
    discard_max: int


def limits(fd: int) -> Limits:
    """Ask the block device behind ``fd``. OSError if it is none."""
    return Limits(
        size=_ask(fd, BLKGETSIZE64, "Q"),
        logical_block_size=_ask(fd, BLKSSZGET, "i"),
        physical_block_size=_ask(fd, BLKPBSZGET, "I"),
        discard_granularity=_queue(fd, "discard_granularity"),
        discard_max=_queue(fd, "discard_max_bytes"),
    )


def _ask(fd: int, request: int, form: str) -> int:
    answer: int = struct.unpack(form, fcntl.ioctl(fd, request, bytes(struct.calcsize(form))))[0]
    return answer


def _queue(fd: int, name: str) -> int:
    """A number from sysfs; a partition has none of its own but its disk's, one folder up."""
    number = os.fstat(fd).st_rdev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    for folder in (device, device.parent):
        try:
            return int((folder / "queue" / name).read_text())
        except (OSError, ValueError):
            continue
    return 0
