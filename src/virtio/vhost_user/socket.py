"""A unix stream socket that passes descriptors: the only module of this package that reads and writes one."""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from typing import NamedTuple

from virtio.vhost_user.framing import MAX_FDS, Outgoing, close_all

__all__ = ["Channel", "Received"]

_INT = array.array("i").itemsize
_ROOM = socket.CMSG_SPACE(2 * MAX_FDS * _INT)
"""Room for more descriptors than may come, so that too many are seen and refused rather than cut off."""


class Received(NamedTuple):
    """What one read brought. No bytes at all: the other side left."""

    data: bytes
    fds: list[int]


class Channel:
    """One connected socket, non-blocking, with a queue of what could not be sent at once.

    Owns the socket, and copies of the descriptors that wait in the queue.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._queue: deque[tuple[memoryview, list[int]]] = deque()

    def fileno(self) -> int:
        """The socket's descriptor, for a selector; -1 once closed."""
        return self._socket.fileno()

    @property
    def unsent(self) -> int:
        """How many messages still wait to be written."""
        return len(self._queue)

    def receive(self, limit: int) -> Received | None:
        """Read up to ``limit`` bytes, with their descriptors (close-on-exec); None if there are none yet.

        OSError if the connection broke, unless it was merely closed or reset by the other side, which reads
        as its end.
        """
        try:
            data, ancillary, _, _ = self._socket.recvmsg(limit, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionError:
            return Received(b"", [])
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % _INT])
        return Received(data, fds.tolist())

    def send(self, outgoing: Outgoing) -> None:
        """Write a message, or as much as fits now and the rest from `flush`. Descriptors may be closed after.

        OSError if the other side is gone.
        """
        if self._queue:
            self._keep(memoryview(outgoing.data), outgoing.fds)
            return
        sent = self._write(memoryview(outgoing.data), outgoing.fds)
        if sent < len(outgoing.data):
            self._keep(memoryview(outgoing.data)[sent:], outgoing.fds if not sent else ())

    def flush(self) -> None:
        """Write what waits, as far as it goes now. OSError if the other side is gone."""
        while self._queue:
            data, fds = self._queue[0]
            sent = self._write(data, tuple(fds))
            if sent:
                close_all(fds)
                fds.clear()
            if sent < len(data):
                self._queue[0] = (data[sent:], fds)
                return
            self._queue.popleft()

    def close(self) -> None:
        """Close the socket and whatever still waited."""
        while self._queue:
            close_all(self._queue.popleft()[1])
        self._socket.close()

    def _keep(self, data: memoryview, fds: tuple[int, ...]) -> None:
        self._queue.append((data, [os.dup(fd) for fd in fds]))

    def _write(self, data: memoryview, fds: tuple[int, ...]) -> int:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            return self._socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
