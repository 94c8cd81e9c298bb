"""The control queue: a command of any bytes in, an answer out (virtio 1.4, 5.1.6.5)."""

from __future__ import annotations

import logging

from virtio.devices.net.commands import CommandRefused, CommandTable
from virtio.spec import net_control as ctrl

__all__ = ["LARGEST_COMMAND", "Control"]

logger = logging.getLogger("virtio.net")

LARGEST_COMMAND = 1 << 18
"""Bytes of the longest command that is looked at: a MAC table of more than forty thousand addresses."""


class Control:
    """Carries out commands one at a time: each takes effect as a whole before its answer, or not at all."""

    def __init__(self, *tables: CommandTable) -> None:
        self._commands: CommandTable = {}
        for table in tables:
            self._commands.update(table)
        self._features = 0
        self.counters = {"commands": 0, "ok": 0}
        """Commands received, and those answered OK."""

    def start(self, features: int) -> None:
        """Serve a driver that accepted ``features``."""
        self._features = features

    def execute(self, command: bytes, room: int) -> bytes:
        """Carry out ``command``, class and number and data; what to write into ``room`` bytes, 1 at least.

        That is OK and the command's result, or ERR alone.
        """
        self.counters["commands"] += 1
        self.counters["ok"] += 1  # the present command counts in its own statistics
        try:
            result = self._run(command, room - 1)
        except CommandRefused as error:
            self.counters["ok"] -= 1
            logger.debug("command %s refused: %s", command[:2].hex(" "), error)
            return bytes([ctrl.ERR])
        return bytes([ctrl.OK]) + result

    def _run(self, command: bytes, room: int) -> bytes:
        if not 2 <= len(command) <= LARGEST_COMMAND:
            raise CommandRefused(f"{len(command)} bytes")
        found = self._commands.get((command[0], command[1]))
        if found is None or found.needs & ~self._features:
            raise CommandRefused("there is no such command" if found is None else "it was not negotiated")
        return found.act(command[2:], room)
