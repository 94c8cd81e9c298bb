"""``virtio net``: a NIC for guests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virtio.cli.backend import BackendCommand, Options, backend_options, print_lines, run_backend
from virtio.cli.capabilities import PROGRAMS
from virtio.cli.frontends import NET, Attachable
from virtio.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class NetCommand(BackendCommand):
    """The help also lists the links and filters that there are."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the text, then where frames can go."""
        from virtio.network import filter_forms, link_forms

        super().format_help_text(ctx, formatter)
        with formatter.section("Links, each a URL"):
            formatter.write_dl(link_forms(), col_max=34)
        with formatter.section("Filters, among any URL's options (tap:vm0?pcap=out.pcapng&delay=10ms)"):
            formatter.write_dl(filter_forms(), col_max=34)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The schemes, then the filters among the options."""
    from click.shell_completion import CompletionItem

    from virtio.network import filters, schemes

    if ":" not in incomplete:
        return [CompletionItem(f"{name}:") for name in schemes() if name.startswith(incomplete)]
    if "?" not in incomplete:
        return []
    at = max(incomplete.rfind("?"), incomplete.rfind("&")) + 1
    return [
        CompletionItem(f"{incomplete[:at]}{name}=") for name in filters() if name.startswith(incomplete[at:])
    ]


@click.command(
    cls=NetCommand,
    program=PROGRAMS["net"],
    examples=[
        ("virtio net user:", "a NIC with a network, without privileges; says what to tell QEMU"),
        ("virtio net user:?forward=tcp:8080:80", "and the guest's port 80 at this host's 8080"),
        ("virtio net switch:/run/lan.sock --socket-path /run/a.sock", "a port of `virtio switch`"),
        ("virtio net tap:vm0?bridge=br0 --num-queues 4", "a port of the host's bridge, four queue pairs"),
        ("virtio net 'user:?pcap=out.pcapng&delay=40ms'", "recorded, and on a slow network"),
        ("virtio net null: --mac 52:54:00:12:34:56 --for libvirt", "only print what libvirt's XML takes"),
    ],
)
@click.argument("url", required=False, metavar="[URL]", shell_complete=_complete)
@click.option("--link", metavar="URL", help="The same as URL.", shell_complete=_complete)
@click.option("--mac", metavar="MAC", help="The NIC's address. [default: a random one from 52:54:00]")
@click.option(
    "--mtu", type=click.IntRange(68, 65535), metavar="BYTES", help="The MTU that the driver is told."
)
@click.option(
    "--num-queues",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Pairs of queues, served in parallel.",
)
@click.option(
    "--queue-size", type=click.IntRange(2, 32768), default=256, show_default=True, help="Descriptors in each."
)
@click.option(
    "--speed", type=click.IntRange(0), metavar="MBIT", help="The speed that the driver is told, Mbit/s."
)
@click.option(
    "--duplex", type=click.Choice(["half", "full"]), help="The duplex mode that the driver is told."
)
@click.option("--standby", is_flag=True, help="Be the standby of another NIC with the same address.")
@click.option(
    "--offloads/--no-offloads",
    default=True,
    show_default=True,
    help="Take frames whose checksum or segmentation is left to be done, and give such.",
)
@click.option(
    "--rss/--no-rss", default=None, help="Let the driver spread frames by hash. [default: with several pairs]"
)
@click.option(
    "--hash-report", is_flag=True, help="Give the driver each frame's hash, which costs time for each."
)
@backend_options
def command(url: str | None, link: str | None, options: Options, **settings: object) -> int:
    """Serve a NIC whose frames go where URL (or --link) says.

    Listens for one hypervisor after the other (vhost-user) until SIGTERM or ^C.
    """
    where = _one(url, link)
    pairs, size, mac = settings["num_queues"], settings["queue_size"], settings["mac"] or ""
    assert isinstance(pairs, int)
    assert isinstance(size, int)
    if size & (size - 1):
        raise UsageError(f"a split ring of {size} descriptors cannot be", fix="use a power of two")
    address = options.settled("net", where.partition("?")[0].strip(":").replace(":", "-"))
    if options.frontend is not None:
        print_lines(options, Attachable(NET, address, pairs, size, mac=_spelled(str(mac))))
        return 0
    from virtio.devices.net import Net  # before it listens: a link that cannot be opened is said early

    with Net(where, **settings) as nic:  # type: ignore[arg-type]
        return run_backend(options, address, lambda: nic, title=f"NIC {nic.mac.hex(':')} on {where}")


def _one(url: str | None, link: str | None) -> str:
    where = link or url
    if not where:
        raise UsageError("where are frames to go?", fix="virtio net URL, or --link URL")
    if url and link:
        raise UsageError(f"{url} and {link} are two links; a NIC has one")
    return where


def _spelled(mac: str) -> str:
    from virtio.devices.net.config import parse_mac

    return parse_mac(mac).hex(":") if mac else ""
