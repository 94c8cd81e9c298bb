"""Where the demo speaks: a line for each thing found, and on a terminal a live line while it works."""

from __future__ import annotations

import shutil
import time
from typing import IO

import click

__all__ = ["Stage"]

LABEL_WIDTH = 11
BAR_WIDTH = 24
PLAIN_SECONDS = 1.0
ERASE_LINE = "\r\x1b[K"


class Stage:
    """Writes findings to ``stream``, and what is under way to ``live``.

    If ``live`` is a terminal, its last line changes in place; otherwise a line of its own tells of progress
    about once a second.
    """

    def __init__(self, stream: IO[str], live: IO[str]) -> None:
        self._stream = stream
        self._live = live
        self._in_place = live.isatty()
        self._shown = False
        self._last_plain = time.monotonic()

    def title(self, number: int, text: str) -> None:
        """Begin an act."""
        self._line(click.style(f"{number}. {text}", bold=True))

    def finding(self, label: str, text: str, *, mark: str = "ok") -> None:
        """One thing that was found; ``mark`` is "ok", "FAILED" or "skipped"."""
        colour = {"ok": "green", "FAILED": "red", "skipped": "yellow"}[mark]
        first, *more = text.splitlines() or [""]
        self._line(f"   {label:<{LABEL_WIDTH}}{click.style(mark, fg=colour)}  {first}")
        for line in more:
            self._line(" " * (5 + LABEL_WIDTH) + line)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._line(text)

    def working(self, label: str, text: str) -> None:
        """What begins now and takes a moment; seen on a terminal only."""
        if self._in_place:
            self._show(f"   {label:<{LABEL_WIDTH}}{text} ...")

    def progress(self, label: str, done: float, text: str) -> None:
        """``done`` of 1 is done, and ``text`` says how it goes."""
        if self._in_place:
            filled = round(done * BAR_WIDTH)
            bar = click.style("━" * filled, fg="green") + "─" * (BAR_WIDTH - filled)
            self._show(f"   {label:<{LABEL_WIDTH}}{bar} {text}")
        elif (now := time.monotonic()) - self._last_plain >= PLAIN_SECONDS:
            self._last_plain = now
            click.echo(f"   {label:<{LABEL_WIDTH}}{done:4.0%}  {text}", file=self._live)

    def clear(self) -> None:
        """Take the live line away."""
        if self._shown:
            self._erase()
            self._shown = False

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns
        if len(click.unstyle(text)) >= width:
            text = click.unstyle(text)[: width - 1]
        self._erase()
        click.echo(text, file=self._live, nl=False)
        self._shown = True

    def _erase(self) -> None:
        # Not by click, which takes it for colour and leaves it out where that is not wanted.
        self._live.write(ERASE_LINE)
        self._live.flush()

    def _line(self, text: str) -> None:
        self.clear()
        self._last_plain = time.monotonic()
        click.echo(text, file=self._stream)
        self._stream.flush()
