"""``virtio doctor``: what this machine has for virtio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virtio.cli.command import Command, json_option
from virtio.cli.output import emit, table
from virtio.errors import HostError

if TYPE_CHECKING:
    from virtio.cli.checks import Result

MARKS = {"ok": ("ok", "green"), "missing": ("missing", "yellow"), "essential": ("MISSING", "red")}


def _in_words(results: list[Result]) -> str:
    lines = table((_mark(result), result.name, result.found) for result in results)
    advice = [f"{r.name}: {r.why}\n  fix: {r.fix}" for r in results if not r.ok]
    return "\n\n".join([lines, *advice])


def _mark(result: Result) -> str:
    text, colour = MARKS["ok" if result.ok else "essential" if result.essential else "missing"]
    return click.style(text, fg=colour)


@click.command(
    cls=Command,
    examples=[
        ("virtio doctor", "what there is, what is missing and how to get it"),
        ("virtio doctor --json", "the same for a bug report"),
    ],
)
@json_option
def command(as_json: bool) -> int:
    """Say what this machine has and lacks for virtio."""
    from virtio.cli.checks import CHECKS

    results = [check() for check in CHECKS]
    if as_json:
        emit([{**result._asdict(), "ok": result.ok} for result in results], True, str)
    else:
        click.echo(_in_words(results))
    return HostError.exit_status if any(r.essential and not r.ok for r in results) else 0
