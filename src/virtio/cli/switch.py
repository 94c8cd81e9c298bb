"""``virtio switch``: a switch for the NICs of many processes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import click

from virtio.cli.command import Command, json_option
from virtio.cli.output import emit, say, table
from virtio.cli.signals import Stop, stopping
from virtio.cli.sockets import default_path
from virtio.errors import UsageError

if TYPE_CHECKING:
    from virtio.network.switch import PortSettings, Switch

Data = dict[str, Any]
DROPPED = "dropped_"


@click.command(
    cls=Command,
    examples=[
        ("virtio switch lan", "a switch; says how NICs join it"),
        (
            "virtio switch lan --socket /run/lan.sock --uplink tap:tap0",
            "at a path of your choice, with a way out",
        ),
        ("virtio switch lan --socket '/run/ten.sock?vlan=10&isolated'", "whoever joins there is in VLAN 10"),
        ("virtio switch lan --show", "its ports, counters and addresses, from another terminal"),
        ("virtio switch /run/lan.sock --show --watch", "the same, live"),
        ("virtio switch lan --show --json", "the same for programs"),
    ],
)
@click.argument("name", metavar="NAME")
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    metavar="PATH",
    help="Where NICs join; options behind it (?vlan=10&isolated) are fixed for all of them. Repeatable.",
)
@click.option(
    "--uplink", "uplinks", multiple=True, metavar="URL", help="A link that is a port of it. Repeatable."
)
@click.option(
    "--ageing",
    type=click.IntRange(0, 1 << 20),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Forget a station after so long; 0: never.",
)
@click.option(
    "--size",
    type=click.IntRange(1, 1 << 24),
    default=8192,
    show_default=True,
    metavar="N",
    help="Stations it can know.",
)
@click.option("--forward-reserved", is_flag=True, help="Forward what is for switches: STP, LLDP, LACP.")
@click.option("--show", is_flag=True, help="Show the switch that is served already; NAME may be its socket.")
@click.option("--watch", is_flag=True, help="Show it again every second.")
@json_option
def command(
    name: str,
    sockets: tuple[str, ...],
    uplinks: tuple[str, ...],
    ageing: int,
    size: int,
    forward_reserved: bool,
    show: bool,
    watch: bool,
    as_json: bool,
) -> int:
    """Serve a network switch that NICs of any process join.

    It learns which station is behind which port. NICs of any process join it as switch:PATH, with the options
    port, vlan, trunk, native, isolated, mirror and storm. Serves until SIGTERM or ^C.
    """
    if show:
        return _show(_socket_of(name, sockets), as_json, watch)
    if "/" in name:
        raise UsageError(f"{name} is a path: a switch has a name", fix=f"virtio switch lan --socket {name}")
    from virtio.network.switch import Switch

    switch = Switch(name, size=size, ageing=ageing, forward_reserved=forward_reserved)
    with _served(switch, sockets or (default_path("switch", name),), uplinks):
        return _until_stopped(lambda: _describe(switch), as_json, watch)


def _socket_of(name: str, sockets: tuple[str, ...]) -> str:
    if len(sockets) > 1:
        raise UsageError("a switch is shown at one socket")
    if sockets:
        return sockets[0].partition("?")[0]
    return name if "/" in name else default_path("switch", name)


@contextmanager
def _served(switch: Switch, sockets: tuple[str, ...], uplinks: tuple[str, ...]) -> Iterator[None]:
    """Have it served at all the sockets, with its uplinks, as long as the block runs."""
    from virtio.network.switch import PortSettings, SwitchServer, add_uplink

    with ExitStack() as stack:
        for number, url in enumerate(uplinks):
            stack.callback(add_uplink(switch, url, PortSettings(port=f"uplink{number}")).close)
        for text in sockets:
            path, fixed = _socket_and_settings(text)
            stack.callback(SwitchServer(switch, path, fixed=fixed).close)
            where = os.path.abspath(path)
            ways = "" if fixed is None else f" ({_options(fixed.options())})"
            say(f"switch {switch.name}, at {where}{ways}\n  a NIC joins: switch:{where}")
        yield


def _socket_and_settings(text: str) -> tuple[str, PortSettings | None]:
    from virtio.network.switch import PortSettings
    from virtio.network.switch.settings import OPTIONS

    path, _, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS or name == "port":
            allowed = ", ".join(option for option in OPTIONS if option != "port")
            raise UsageError(f"--socket {text}: unknown option {name!r} (there are: {allowed})")
    return path, PortSettings.parse(options) if options else None


def _until_stopped(describe: Callable[[], Data], as_json: bool, watch: bool) -> int:
    stopped = threading.Event()
    with stopping(stopped.set) as stop:
        if watch:
            _watch(describe, as_json, stopped, stop)
        else:
            stopped.wait()
    return stop.status


def _show(path: str, as_json: bool, watch: bool) -> int:
    from virtio.network.switch import query

    if not watch:
        emit(query(path), as_json, in_words)
        return 0
    return _until_stopped(lambda: query(path), as_json, watch)


def _describe(switch: Switch) -> Data:
    from virtio.network.switch import describe

    return describe(switch)


def _watch(describe: Callable[[], Data], as_json: bool, stopped: threading.Event, stop: Stop) -> None:
    """Print it every second: JSON line by line, words in place on a terminal."""
    terminal = os.isatty(1)
    while not stop.asked:
        data = describe()
        if as_json:
            click.echo(json.dumps(data))
        else:
            click.echo(("\x1b[H\x1b[2J" if terminal else "") + in_words(data) + ("" if terminal else "\n"))
        stopped.wait(1.0)


def in_words(data: Data) -> str:
    """A switch as tables."""
    head = f"switch {data['name']}: {len(data['stations'])} of {data['capacity']} stations known"
    parts = [f"{head}, for {data['ageing']} s each" if data["ageing"] else f"{head}, for good"]
    ports = [_port_row(port) for port in data["ports"]]
    columns = ("port", "in", "bytes", "out", "bytes", "flooded", "dropped", "settings")
    parts.append(table(ports, columns) if ports else "no ports")
    if data["stations"]:
        rows = [(s["vlan"], s["address"], s["port"], f"{s['age']} s") for s in data["stations"]]
        parts.append(table(rows, ("vlan", "address", "port", "age")))
    return "\n\n".join(parts)


def _port_row(port: Data) -> tuple[object, ...]:
    counters = port["counters"]
    return (
        port["port"] if port["connected"] else f"{port['port']} (down)",
        counters["in_frames"],
        counters["in_bytes"],
        counters["out_frames"],
        counters["out_bytes"],
        counters["flooded"],
        _dropped(counters),
        _options(port["settings"]),
    )


def _dropped(counters: dict[str, int]) -> str:
    reasons = {
        name.removeprefix(DROPPED): n for name, n in counters.items() if name.startswith(DROPPED) and n
    }
    if not reasons:
        return "0"
    return f"{sum(reasons.values())} ({', '.join(f'{reason} {n}' for reason, n in reasons.items())})"


def _options(settings: dict[str, str]) -> str:
    return " ".join(name if value == "yes" else f"{name}={value}" for name, value in settings.items())
