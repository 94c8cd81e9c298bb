"""What every command of ours has in common: examples in its help, ``--json``, the same look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

__all__ = ["Command", "Group", "json_option"]

Example = tuple[str, str]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""Gives a command the argument ``as_json``."""


def _write_examples(formatter: click.HelpFormatter, examples: Sequence[Example]) -> None:
    if examples:
        with formatter.section("Examples"):
            formatter.write_dl(list(examples), col_max=60)


class Command(click.Command):
    """A command whose help ends with examples and the names of its environment variables.

    ``examples`` are pairs: a command line, and what it does.
    """

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and how to give options by environment."""
        _write_examples(formatter, self.examples)
        option = next(
            (p for p in self.get_params(ctx) if isinstance(p, click.Option) and p.name != "help"), None
        )
        if option and ctx.auto_envvar_prefix:
            variable = f"{ctx.auto_envvar_prefix}_{str(option.name).upper()}"
            formatter.write_paragraph()
            formatter.write_text(f"Options are environment variables too: {option.opts[-1]} is {variable}.")


class Group(click.Group):
    """A command with commands of its own; as ``Command``."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(formatter, self.examples)
