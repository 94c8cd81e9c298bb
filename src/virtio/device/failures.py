"""What a device's handler raised, told once per kind instead of once per request."""

from __future__ import annotations

import logging
import threading
import time

__all__ = ["FailureLog"]

logger = logging.getLogger("virtio.device")

QUIET = 60.0  # seconds in which another failure of the same kind is only counted


class FailureLog:
    """Reports failed requests. A kind is an exception type raised at one place in the source."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, type[BaseException], int], tuple[float, int]] = {}

    def report(self, queue: str, what: str, error: BaseException) -> None:
        """Log that ``what``, a request of ``queue``, failed with ``error``, with its traceback."""
        kind = (queue, type(error), _line(error))
        now = time.monotonic()
        with self._lock:
            last, unreported = self._kinds.get(kind, (-QUIET, 0))
            quiet = now - last < QUIET
            self._kinds[kind] = (last, unreported + 1) if quiet else (now, 0)
        if not quiet:
            more = f" ({unreported} more like this since the last report)" if unreported else ""
            logger.error("%s failed%s", what, more, exc_info=error)


def _line(error: BaseException) -> int:
    """Where the exception was raised, as a line number of the innermost frame."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        line, trace = trace.tb_lineno, trace.tb_next
    return line
