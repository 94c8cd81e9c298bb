"""``virtio demo``: see it work, in half a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from virtio.cli.command import Command, json_option
from virtio.errors import HostError, UsageError

if TYPE_CHECKING:
    from virtio.demo import Act, Stage
    from virtio.vm.choice import Kind


@click.command(
    cls=Command,
    examples=[
        ("virtio demo", "a disk in Python and in each kind of guest there is; two guests that talk"),
        ("virtio demo --no-guest", "needs nothing but pyvirtio itself"),
        ("virtio demo --qemu", "with QEMU alone"),
    ],
)
@click.option("--uml", is_flag=True, help="Of the guests, User-Mode Linux.")
@click.option("--qemu", is_flag=True, help="Of the guests, QEMU.")
@click.option("--no-guest", is_flag=True, help="Without guests.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 60),
    default=1.5,
    show_default=True,
    help="How long each load lasts.",
)
@json_option
def command(uml: bool, qemu: bool, no_guest: bool, seconds: float, as_json: bool) -> int:
    """Show it all: a disk in Python, real guests that use it, and two guests that talk.

    First a device and a driver meet at a vhost-user socket; then a Linux guest (User-Mode Linux, and QEMU)
    formats the disk, fills it and checks it, and the host reads the same bytes; then two guests (of the kind
    that runs best) ping each other and transfer a file through two NICs and a switch. Nothing is left behind.
    The exit status is 1 if anything failed, and 4 if there is no guest to be had.
    """
    from virtio.demo import Stage, direct_act, guest_act, network_act

    if no_guest and (uml or qemu):
        raise UsageError("--no-guest together with a kind of guest", fix="choose one of them")
    plays: list[Callable[[Stage, int], Act]] = [partial(direct_act, seconds=seconds)]
    if not no_guest:
        everything = not (uml or qemu)
        plays += [partial(guest_act, kind="uml")] * (uml or everything)
        plays += [partial(guest_act, kind="qemu")] * (qemu or everything)
        plays.append(partial(network_act, kind=_only(uml, qemu), seconds=seconds))
    stage = Stage(sys.stderr if as_json else sys.stdout, sys.stderr)
    acts = [play(stage, number) for number, play in enumerate(plays, start=1)]
    status = _status(acts)
    _summarise(stage, acts)
    if as_json:
        _print_json(acts)
    return status


def _only(uml: bool, qemu: bool) -> Kind | None:
    """The kind of guest asked for; None: whatever runs best."""
    if uml == qemu:
        return None
    return "uml" if uml else "qemu"


def _status(acts: list[Act]) -> int:
    if any(act.outcome == "failed" for act in acts):
        return 1
    return HostError.exit_status if all(act.outcome == "missing" for act in acts[1:]) and acts[1:] else 0


def _summarise(stage: Stage, acts: list[Act]) -> None:
    count = {outcome: sum(act.outcome == outcome for act in acts) for outcome in ("ok", "failed", "missing")}
    parts = [f"{count['ok']} of {len(acts)} worked"]
    parts += [f"{count['failed']} failed"] * bool(count["failed"])
    parts += [f"{count['missing']} skipped: this machine lacks something"] * bool(count["missing"])
    stage.say("; ".join(parts) + ".")


def _print_json(acts: list[Act]) -> None:
    import json
    from dataclasses import asdict

    click.echo(json.dumps([asdict(act) for act in acts], indent=2))
