"""Data goes to standard output, talk to standard error; tables are aligned, colour only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import click

__all__ = ["emit", "hexdump", "say", "table"]

T = TypeVar("T")


def say(text: str) -> None:
    """Say something to the person at the terminal, on standard error; to nobody once nobody listens."""
    try:
        click.echo(text, err=True)
    except BrokenPipeError:
        # What Python still holds of it would fail again when it exits, and change the exit status to 120.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def emit(data: T, as_json: bool, words: Callable[[T], str]) -> None:
    """Print data on standard output: as JSON, or in words as ``words`` puts it."""
    if as_json:
        import json

        click.echo(json.dumps(data, indent=2))
    else:
        click.echo(words(data))


def table(rows: Iterable[Sequence[object]], headers: Sequence[str] = (), indent: int = 0) -> str:
    """Rows as aligned columns, two spaces apart; the last column is as long as it likes."""
    lines = [[str(cell) for cell in row] for row in rows]
    heads = [[head.upper() for head in headers]] if headers else []
    widths = [max(len(cell) for cell in column) for column in zip(*heads, *lines, strict=True)]
    margin = " " * indent
    return "\n".join(
        (margin + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()
        for line in heads + lines
    )


def hexdump(data: bytes, offset: int) -> str:
    """Sixteen bytes a line with their offset and text; repeated lines as one asterisk."""
    lines: list[str] = []
    before = b""
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        if row != before or at == 0:
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            lines.append(f"{offset + at:08x}  {row[:8].hex(' '):23}  {row[8:].hex(' '):23}  |{text}|")
        elif lines[-1] != "*":
            lines.append("*")
        before = row
    return "\n".join(lines)
