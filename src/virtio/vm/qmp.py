"""A small client of QEMU's machine protocol: one JSON object per line, answers in order, events between."""

from __future__ import annotations

import json
import socket
from collections import deque
from typing import Any

from virtio.errors import GuestError

__all__ = ["Qmp"]


class Qmp:
    """The protocol over a connected socket, which it owns from then on. Not for several threads."""

    def __init__(self, connection: socket.socket, timeout: float = 10.0) -> None:
        self._connection = connection
        self._connection.settimeout(timeout)
        self._lines = connection.makefile("rb")
        self._ready = False
        self.events: deque[dict[str, Any]] = deque(maxlen=100)
        """Events that arrived while an answer was awaited, the latest last."""

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run ``command`` and return what it answers. Raises GuestError when QEMU refuses or has gone."""
        if not self._ready:
            self._receive("QMP")
            self._ready = True
            self.execute("qmp_capabilities")
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise GuestError(f"QEMU does not take {command}: {error.strerror}") from error
        answer = self._receive("return", "error")
        if "error" in answer:
            raise GuestError(f"QEMU refused {command}: {answer['error']['desc']}")
        return answer["return"]

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._connection.close()

    def _receive(self, *keys: str) -> dict[str, Any]:
        while True:
            try:
                line = self._lines.readline()
            except OSError as error:
                raise GuestError(f"QEMU does not answer on its control socket: {error}") from error
            if not line:
                raise GuestError("QEMU closed its control socket")
            message: dict[str, Any] = json.loads(line)
            if any(key in message for key in keys):
                return message
            if "event" in message:
                self.events.append(message)
