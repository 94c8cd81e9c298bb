"""``virtio explain``: what an error code means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from virtio.cli.command import Command, json_option
from virtio.cli.output import emit, table
from virtio.errors import UsageError, VirtioError, catalogue

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FAULTS = {
    1: "a failure",
    2: "a mistake in the call",
    3: "the other program's fault",
    4: "something this machine lacks or refuses",
}


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    codes = catalogue()
    return [CompletionItem(c, help=_summary(codes[c])) for c in codes if c.startswith(incomplete.upper())]


def _text(cls: type[VirtioError]) -> str:
    import inspect

    return inspect.cleandoc(cls.__doc__ or "")


def _summary(cls: type[VirtioError]) -> str:
    return " ".join(_text(cls).partition("\n\n")[0].split())


def _entry(code: str, cls: type[VirtioError]) -> dict[str, Any]:
    return {"code": code, "exit_status": cls.exit_status, "text": _text(cls), "fix": cls.fix}


def _in_words(entry: dict[str, Any]) -> str:
    status = entry["exit_status"]
    lines = [f"{entry['code']}: {entry['text']}"]
    if entry["fix"]:
        lines += ["", f"Fix: {entry['fix']}"]
    return "\n".join([*lines, "", f"Exit status {status}: {FAULTS[status]}."])


def _find(code: str) -> dict[str, Any]:
    codes = catalogue()
    name = code.upper() if code.upper().startswith("E-") or code.upper() in codes else f"E-{code.upper()}"
    if name not in codes:
        from difflib import get_close_matches

        near = get_close_matches(name, codes, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "virtio explain lists them all"
        raise UsageError(f"there is no error code {code}", fix=hint)
    return _entry(name, codes[name])


@click.command(
    cls=Command,
    examples=[
        ("virtio explain E-SHM", "what E-SHM means and how to mend it"),
        ("virtio explain", "list the codes"),
    ],
)
@click.argument("code", required=False, shell_complete=_complete)
@json_option
def command(code: str | None, as_json: bool) -> None:
    """Explain an error code."""
    if code is not None:
        emit(_find(code), as_json, _in_words)
        return
    codes = catalogue()
    if as_json:
        emit([_entry(name, cls) for name, cls in codes.items()], True, str)
    else:
        click.echo(table((name, _summary(cls)) for name, cls in codes.items()))
