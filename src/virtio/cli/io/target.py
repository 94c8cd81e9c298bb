"""The group ``virtio io``, and the device that its commands drive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from virtio.cli.command import Group

if TYPE_CHECKING:
    from virtio.drivers import Blk, Net
    from virtio.drivers.vhost_user import VhostUserTransport

__all__ = ["Target", "command", "parse_bytes", "parse_mac_option"]

FRAME_ROOM = 64  # bytes of a receive buffer beside the frame: its header, and a VLAN tag


@dataclass(frozen=True)
class Target:
    """What is behind a socket, and how to drive it."""

    socket: str
    num_queues: int
    queue_size: int
    packed: bool | None
    timeout: float

    def disk(self) -> Blk:
        """Connect to it as a disk."""
        from virtio.drivers import Blk

        return Blk.connect(
            self.socket,
            num_queues=self.num_queues,
            queue_size=self.queue_size,
            packed=self.packed,
            timeout=self.timeout,
        )

    def nic(self, *, pairs: int | None = None, longest: int = 0) -> Net:
        """Connect to it as a NIC whose buffers hold frames of ``longest`` bytes.

        UsageError if its features are another device's.
        """
        from virtio.errors import UsageError
        from virtio.spec import ids

        with self._transport() as transport:
            others = _other_than_nic(transport.device_features())
            if others:
                raise UsageError(
                    f"what is at {self.socket} is no NIC; its features are those of {ids.name(others[0])}",
                    fix=f"virtio probe {self.socket} says more",
                )
            return self._nic(transport, pairs, longest)

    def either(self) -> Net | Blk:
        """Connect to it as what it is, as far as its features and its configuration tell."""
        from virtio.drivers import Blk, BlkOptions
        from virtio.drivers.probe import ranked
        from virtio.spec import net

        with self._transport() as transport:
            kinds = ranked(transport.frontend, transport.device_features())
            if kinds and kinds[0] == net.DEVICE.id:
                return self._nic(transport)
            return Blk(transport, BlkOptions(packed=self.packed, timeout=self.timeout))

    def _nic(self, transport: VhostUserTransport, pairs: int | None = None, longest: int = 0) -> Net:
        from virtio.drivers import Net, NetOptions

        transport.counts_pairs = True
        options = NetOptions(
            num_queues=pairs or self.num_queues,
            queue_size=self.queue_size,
            packed=self.packed,
            timeout=self.timeout,
            buffer_size=max(2048, longest + FRAME_ROOM),
        )
        return Net(transport, options)

    @contextmanager
    def _transport(self) -> Iterator[VhostUserTransport]:
        """A connection, which is closed again if it comes to nothing."""
        from virtio.drivers.vhost_user import VhostUserTransport

        transport = VhostUserTransport.connect(self.socket, timeout=self.timeout)
        try:
            yield transport
        except BaseException:
            transport.close()
            raise


def _other_than_nic(features: int) -> list[int]:
    """The device types that these features fit, if they do not fit a NIC.

    Some NICs offer bits without those that they need: they fit no type.
    """
    from virtio.drivers.probe import fitting
    from virtio.spec import net

    kinds = fitting(features)
    return [] if net.DEVICE.id in kinds else kinds


def parse_bytes(text: str) -> int:
    """Bytes with an optional suffix: 512, 4k, 1M, 2G; a usage error for anything else."""
    from virtio.errors import VirtioError
    from virtio.storage.url import parse_size

    try:
        return parse_size(text)
    except VirtioError as error:
        raise click.BadParameter(str(error)) from None


def parse_mac_option(ctx: click.Context, param: click.Parameter, text: str | None) -> bytes | None:
    """A MAC address such as 52:54:00:12:34:56; a usage error for anything else."""
    from virtio.drivers.net.commands import parse_mac
    from virtio.errors import VirtioError

    try:
        return None if text is None else parse_mac(text)
    except VirtioError as error:
        raise click.BadParameter(str(error)) from None


@click.group(
    cls=Group,
    subcommand_metavar="COMMAND [ARGS]...",
    examples=[
        ("virtio io /tmp/disk.sock info", "what the disk, or the NIC, is"),
        ("virtio io /tmp/disk.sock read --length 4k > block", "read to a file"),
        ("virtio io /tmp/disk.sock write --offset 1M < block", "write what comes in, then flush"),
        ("virtio io /tmp/disk.sock discard --offset 1M --length 1M", "let a range go"),
        ("virtio io /tmp/disk.sock bench --depth 32", "random reads, and how fast they are"),
        ("virtio io /tmp/nic.sock send arp:192.0.2.1 --wait 1", "ask, and show what comes back"),
        ("virtio io /tmp/nic.sock receive --write in.pcapng", "show and record what comes"),
        ("virtio io /tmp/nic.sock flood --size 64 --rate 1M", "a million frames a second"),
        ("virtio io /tmp/nic.sock echo", "send back what comes"),
    ],
)
@click.argument("socket")
@click.option("--num-queues", default=1, show_default=True, help="Queues, or a NIC's pairs, to use.")
@click.option("--queue-size", default=128, show_default=True, help="Descriptors in each queue.")
@click.option("--packed/--split", default=None, help="The kind of ring; packed if the device offers it.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for the device.")
@click.pass_context
def command(
    ctx: click.Context, socket: str, num_queues: int, queue_size: int, packed: bool | None, timeout: float
) -> None:
    """Drive the disk or the NIC behind a vhost-user socket."""
    ctx.obj = Target(socket, num_queues, queue_size, packed, timeout)
