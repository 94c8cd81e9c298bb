"""Medians, and tables of plain text and of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure by itself."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def thousands(value: float) -> str:
    """A rate in thousands, with three digits that mean something."""
    return f"{value / 1000:.0f} k" if value >= 100_000 else f"{value / 1000:.1f} k"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their heads: the first to the left, figures to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in (head, *rows)
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same for Markdown."""
    line = ["|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([_row(head), *line, *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
