"""``virtio io SOCKET`` on a NIC under load: flood, echo."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import click

from virtio.cli.command import json_option
from virtio.cli.io.info import rows
from virtio.cli.io.nic import promiscuous_option, ready
from virtio.cli.io.target import Target, command, parse_bytes, parse_mac_option
from virtio.cli.output import emit, table
from virtio.cli.signals import stopping

if TYPE_CHECKING:
    from virtio.drivers import Net, NetLoadOptions, NetLoadResult

UNTIL_STOPPED = 1e9  # seconds


def parse_rate(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Frames a second, with an optional suffix: 500, 10k, 1.5M."""
    if text is None:
        return None
    factor = {"k": 1e3, "m": 1e6, "g": 1e9}.get(text[-1:].lower(), 1.0)
    try:
        return float(text if factor == 1.0 else text[:-1]) * factor
    except ValueError:
        raise click.BadParameter(f"{text!r} is no rate such as 500, 10k or 1.5M") from None


@command.command(
    examples=[
        ("virtio io S flood", "frames of 64 bytes, as fast as they are taken, for 5 seconds"),
        ("virtio io S flood --size 1514 --rate 100k --seconds 60", "at a rate"),
        ("virtio io S flood --pairs 4 --receive --json", "on four pairs; count what comes, too"),
    ]
)
@click.option(
    "--size", type=parse_bytes, metavar="BYTES", default="64", show_default=True, help="Of each frame."
)
@click.option("--rate", callback=parse_rate, help="Frames a second at the most (10k, 1.5M).")
@click.option("--seconds", default=5.0, show_default=True, help="How long.")
@click.option("--frames", type=click.IntRange(1), help="How many, if that is reached earlier.")
@click.option("--pairs", type=click.IntRange(1), help="Of queues, a thread each. [default: --num-queues]")
@click.option("--to", "target_mac", callback=parse_mac_option, help="Target MAC. [default: everybody]")
@click.option("--receive", is_flag=True, help="Take and count what comes meanwhile.")
@click.option("--poll/--sleep", default=False, show_default=True, help="How to wait for the device.")
@promiscuous_option
@json_option
@click.pass_obj
def flood(
    target: Target,
    size: int,
    rate: float | None,
    seconds: float,
    frames: int | None,
    pairs: int | None,
    target_mac: bytes | None,
    receive: bool,
    poll: bool,
    promiscuous: bool,
    as_json: bool,
) -> None:
    """Send one frame over and over, and measure how fast it is taken."""
    from virtio.drivers import NetLoadOptions
    from virtio.drivers.net.load import sample_frame
    from virtio.network.craft import EVERYBODY

    with target.nic(pairs=pairs, longest=size) as nic:
        ready(nic, promiscuous=promiscuous)
        frame = sample_frame(size, bytes.fromhex(nic.mac.replace(":", "")), target_mac or EVERYBODY)
        options = NetLoadOptions(
            send=True, receive=receive, frame=frame, frames=frames, seconds=seconds, rate=rate, polling=poll
        )
        _run(nic, options, as_json, size)


@command.command(
    examples=[
        ("virtio io S echo", "send back what comes, until ^C"),
        ("virtio io S echo --pairs 2 --seconds 10 --json", "on two pairs, and what that came to"),
    ]
)
@click.option("--swap/--as-is", default=True, show_default=True, help="Exchange the MAC addresses.")
@click.option("--seconds", type=float, help="How long. [default: until ^C]")
@click.option("--pairs", type=click.IntRange(1), help="Of queues, a thread each. [default: --num-queues]")
@click.option("--poll/--sleep", default=False, show_default=True, help="How to wait for the device.")
@promiscuous_option
@json_option
@click.pass_obj
def echo(
    target: Target,
    swap: bool,
    seconds: float | None,
    pairs: int | None,
    poll: bool,
    promiscuous: bool,
    as_json: bool,
) -> None:
    """Send back whatever comes."""
    from virtio.drivers import NetLoadOptions

    options = NetLoadOptions(
        echo=True,
        swap_addresses=swap,
        seconds=UNTIL_STOPPED if seconds is None else seconds,
        polling=poll,
    )
    with target.nic(pairs=pairs) as nic:
        ready(nic, promiscuous=promiscuous)
        _run(nic, options, as_json)


def _run(nic: Net, options: NetLoadOptions, as_json: bool, size: int | None = None) -> None:
    """Drive the NIC and say what came of it, also when that was ended by ^C."""
    from virtio.drivers import run_net_load

    stop = threading.Event()
    with stopping(stop.set) as asked:
        result = run_net_load(nic, options, stop)
    emit(_measured(result, size), as_json, lambda data: table(rows(data)))
    click.get_current_context().exit(asked.status)


def _measured(result: NetLoadResult, size: int | None = None) -> dict[str, Any]:
    """What came of it; bits are those of frames without preamble, checksum (FCS) and gap."""
    seconds = result.seconds or 1.0
    data: dict[str, Any] = {
        "seconds": round(result.seconds, 3),
        "sent": result.sent,
        "sent_per_second": round(result.sent_per_second),
    }
    if size is not None:
        data["sent_mbit_per_second"] = round(result.sent * size * 8 / seconds / 1e6, 1)
    return {
        **data,
        "received": result.received,
        "received_per_second": round(result.received_per_second),
        "received_mbit_per_second": round(result.received_bytes * 8 / seconds / 1e6, 1),
        "dropped": result.dropped,
        "cpu_seconds": round(result.cpu_seconds, 3),
        "kicks": result.kicks,
        "sleeps": result.sleeps,
    }
