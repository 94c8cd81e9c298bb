"""What a service says while it runs: its front-ends' faults, and what the library logs. All on stderr."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from virtio.cli.output import say
from virtio.errors import PeerError, VirtioError

if TYPE_CHECKING:
    from virtio.vhost_user.server import Service

__all__ = ["Talk"]

QUIET = 60.0
"""Seconds in which the same words are not said again: a front-end may come back every second."""


class Talk(logging.Handler):
    """Says errors in one line each, with their fix; tracebacks only of code that is the user's own.

    ``peer_error`` is the last fault of a front-end, for the exit status of a program that serves only one.
    Nothing here raises: nobody reading what is said is no reason to stop serving.
    """

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__(logging.WARNING)
        self._tracebacks = tracebacks or os.environ.get("VIRTIO_DEBUG") == "1"
        self._said: dict[str, float] = {}
        self._mutex = threading.Lock()
        self.peer_error: PeerError | None = None

    def __enter__(self) -> Talk:
        logging.getLogger("virtio").addHandler(self)
        return self

    def __exit__(self, *details: object) -> None:
        logging.getLogger("virtio").removeHandler(self)

    def report(self, service: Service, error: VirtioError) -> None:
        """A front-end's fault, as `Server` reports it."""
        if isinstance(error, PeerError):
            self.peer_error = error
        self.say(error.report())

    def emit(self, record: logging.LogRecord) -> None:
        """A line of the library's log."""
        self.say(record.getMessage() + self._cause(record))

    def say(self, text: str) -> None:
        """Say ``text``, unless it was said a moment ago."""
        now = time.monotonic()
        with self._mutex:
            if now - self._said.get(text, -QUIET) < QUIET:
                return
            self._said = {said: at for said, at in self._said.items() if now - at < QUIET}
            self._said[text] = now
        with suppress(OSError, ValueError):
            say(f"virtio: {text}")

    def _cause(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return ""
        if isinstance(error, VirtioError):
            return f": {error.report()}"
        if self._tracebacks:
            from traceback import format_exception

            return "\n" + "".join(format_exception(error)).rstrip()
        return f": {type(error).__name__}: {error}"
