"""``virtio io SOCKET`` on a NIC: send, receive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING

import click

from virtio.cli.command import json_option
from virtio.cli.io.frames import FramePrinter, read_frames
from virtio.cli.io.target import Target, command, parse_bytes, parse_mac_option
from virtio.cli.output import say

if TYPE_CHECKING:
    from virtio.drivers import Net
    from virtio.network.craft import Maker

__all__ = ["promiscuous_option", "ready"]

BURST = 64
LONGEST_WAIT = 0.2  # seconds; how often what is waited for is looked up


promiscuous_option = click.option(
    "--promiscuous", is_flag=True, help="Ask the device for frames to any address."
)
"""Gives a command the argument ``promiscuous``."""


def _showing(function: Callable[..., None]) -> Callable[..., None]:
    """The options of commands that show what comes."""
    for option in (
        click.option("--hex", "dump", is_flag=True, help="Show the bytes of each frame too."),
        click.option("--write", "path", metavar="FILE", help="Record what comes in a pcapng file."),
        json_option,
        promiscuous_option,
    ):
        function = option(function)
    return function


@command.command(
    examples=[
        ("virtio io S send arp:192.0.2.1 --wait 1", "ask who has an address; show what comes back"),
        ("virtio io S send ping:192.0.2.1 --source 192.0.2.2 --to MAC", "an ICMP echo request"),
        ("virtio io S send 'udp:[2001:db8::1]:9' --source 2001:db8::2", "a UDP datagram"),
        ("virtio io S send 'ffffffffffff 525400000001 88b5 0102'", "these bytes"),
        ("virtio io S send --read out.pcapng --count 3", "a capture's frames, three times"),
    ]
)
@click.argument("frames", nargs=-1, metavar="[FRAME]...")
@click.option("--read", "file", type=click.File("rb"), help="Send the frames of a pcap or pcapng file.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How often.")
@click.option("--interval", default=0.0, metavar="SECONDS", help="Pause between the rounds of --count.")
@click.option("--from", "source_mac", callback=parse_mac_option, help="Source MAC. [default: the NIC's]")
@click.option("--to", "target_mac", callback=parse_mac_option, help="Target MAC. [default: everybody]")
@click.option("--source", metavar="ADDRESS", help="The IP address that ARP, pings and datagrams come from.")
@click.option("--data", default="pyvirtio", metavar="TEXT", help="What a ping or a datagram carries.")
@click.option("--vlan", type=click.IntRange(0, 4095), help="Tag what is described.")
@click.option(
    "--size", type=parse_bytes, metavar="BYTES", default="60", help="Fill what is described with zeros."
)
@click.option("--wait", default=0.0, metavar="SECONDS", help="Then show for so long what comes.")
@click.option("--answers", type=click.IntRange(1), help="End --wait when so many frames have come.")
@_showing
@click.pass_obj
def send(
    target: Target,
    frames: Sequence[str],
    file: IO[bytes] | None,
    count: int,
    interval: float,
    source_mac: bytes | None,
    target_mac: bytes | None,
    source: str | None,
    data: str,
    vlan: int | None,
    size: int,
    wait: float,
    answers: int | None,
    promiscuous: bool,
    dump: bool,
    path: str | None,
    as_json: bool,
) -> None:
    """Send frames.

    A FRAME is hexadecimal, from the destination address on and without a checksum (FCS), or described:
    arp:ADDRESS, ping:ADDRESS, udp:ADDRESS:PORT.
    """
    from virtio.errors import UsageError
    from virtio.network.craft import EVERYBODY, Maker

    if not frames and file is None:
        raise UsageError("there is nothing to send", fix="name a FRAME, or a capture: --read FILE")
    recorded = read_frames(file, getattr(file, "name", "standard input")) if file is not None else []
    with target.nic() as nic, FramePrinter.to(path, as_json=as_json, dump=dump) as printer:
        ready(nic, promiscuous=promiscuous, vlans=[] if vlan is None else [vlan])
        mac = source_mac or bytes.fromhex(nic.mac.replace(":", ""))
        maker = Maker(mac, target_mac or EVERYBODY, source, data.encode(), vlan, size)
        sent = _send_rounds(nic, maker, frames, recorded, count, interval)
        say(f"{sent} frames sent")
        if wait:
            _show(nic, printer, answers, wait)


def _send_rounds(
    nic: Net, maker: Maker, frames: Sequence[str], recorded: list[bytes], count: int, interval: float
) -> int:
    """All frames ``count`` times; how many that were. DeviceTimeoutError if the device has no room."""
    from virtio.errors import DeviceTimeoutError

    total = 0
    for number in range(1, count + 1):
        burst = [maker.make(text, number) for text in frames] + recorded
        taken = nic.send(burst)
        total += taken
        if taken < len(burst):
            raise DeviceTimeoutError(f"the device has room for {total} frames, and takes no more")
        if interval and number < count:
            time.sleep(interval)
    nic.flush()
    return total


@command.command(
    examples=[
        ("virtio io S receive", "show what comes, until ^C"),
        ("virtio io S receive --count 10 --json", "ten frames, a JSON object in each line"),
        ("virtio io S receive --seconds 60 --write in.pcapng", "record a minute for Wireshark"),
    ]
)
@click.option("--count", type=click.IntRange(1), help="End after so many frames.")
@click.option("--seconds", type=float, help="End after so long. [default: with ^C]")
@click.option("--vlan", "vlans", type=click.IntRange(0, 4095), multiple=True, help="Ask for this VLAN, too.")
@_showing
@click.pass_obj
def receive(
    target: Target,
    count: int | None,
    seconds: float | None,
    vlans: Sequence[int],
    promiscuous: bool,
    dump: bool,
    path: str | None,
    as_json: bool,
) -> None:
    """Show what comes: time, length, addresses, type, and what it says."""
    with target.nic() as nic, FramePrinter.to(path, as_json=as_json, dump=dump) as printer:
        ready(nic, promiscuous=promiscuous, vlans=vlans)
        try:
            _show(nic, printer, count, seconds)
        finally:
            say(f"{printer.frames} frames of {printer.bytes} bytes came")


def _show(nic: Net, printer: FramePrinter, count: int | None, seconds: float | None) -> None:
    end = None if seconds is None else time.monotonic() + seconds
    while count is None or printer.frames < count:
        left = LONGEST_WAIT if end is None else min(end - time.monotonic(), LONGEST_WAIT)
        if left <= 0:
            return
        for frame in nic.receive(BURST if count is None else min(BURST, count - printer.frames), left):
            printer.show(frame)


def ready(nic: Net, *, promiscuous: bool, vlans: Sequence[int] = ()) -> None:
    """Have the device give what is asked for. NetworkDownError if it says that there is no carrier."""
    from virtio.errors import NetworkDownError
    from virtio.spec import net

    if not nic.link_up:
        raise NetworkDownError(f"the NIC {nic.mac} has no carrier")
    if promiscuous:
        nic.set_rx_mode(promisc=True)
    for vlan in vlans:
        if nic.has(net.F_CTRL_VLAN):  # else none is kept away
            nic.set_vlan(vlan)
