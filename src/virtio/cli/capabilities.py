"""The back-end programs, as QEMU's conventions have them describe themselves."""

from __future__ import annotations

import json
from typing import NamedTuple

__all__ = ["PROGRAMS", "Program"]


class Program(NamedTuple):
    """A back-end: its command and program name's end, vhost-user's word for its type, and what it offers."""

    command: str
    type: str
    description: str
    features: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """The program of its own that is installed beside ``virtio``."""
        return f"virtio-{self.command}"

    def capabilities(self) -> str:
        """The answer to ``--print-capabilities``."""
        return json.dumps({"type": self.type, "features": list(self.features)})


PROGRAMS: dict[str, Program] = {
    program.command: program
    for program in (
        Program("blk", "block", "pyvirtio vhost-user block device", ("read-only", "blk-file")),
        Program("net", "net", "pyvirtio vhost-user network device"),
        Program("rng", "rng", "pyvirtio vhost-user entropy device"),
    )
}
"""Every back-end of ours with a type in vhost-user's list, by its command."""
