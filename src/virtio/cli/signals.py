"""How a service ends: the first ^C or SIGTERM stops it cleanly, the second ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop", "stopping"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal asked for the end, and the exit status that goes with it.

    ``status`` is 0 while no signal came and after SIGTERM, the ordinary end of a service; 130 after ^C.
    """

    asked = False
    status = 0


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[Stop]:
    """Call ``stop`` when the first SIGINT or SIGTERM comes; a second one kills.

    ``stop`` runs in the main thread between two of its instructions, so it should only set a flag or write to
    a descriptor. The earlier handlers are back afterwards. Use it as::

        with stopping(server.stop) as asked:
            server.run()
        return asked.status
    """
    outcome = Stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        outcome.asked = True
        outcome.status = 128 + number if number == signal.SIGINT else 0
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        stop()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield outcome
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
