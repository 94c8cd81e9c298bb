"""``virtio spec``: the specification, looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virtio.cli.command import Group, json_option
from virtio.cli.output import emit

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from virtio.spec import DEVICES

    return [CompletionItem(e.name, help=e.title) for e in DEVICES if e.name.startswith(incomplete)]


@click.group(
    cls=Group,
    invoke_without_command=True,
    examples=[
        ("virtio spec", "every device type"),
        ("virtio spec device blk", "features, configuration space and requests of a disk"),
        ("virtio spec feature RING_PACKED", "what a feature bit means and needs"),
        ("virtio spec decode net 0x100000083", "the bits in a feature set, and what it lacks"),
        ("virtio spec message SET_MEM_TABLE", "a vhost-user message"),
        ("virtio spec status 15 --json", "a device status, as JSON"),
    ],
)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Look things up in the specification."""
    if ctx.invoked_subcommand is None:
        _devices(as_json)


def _devices(as_json: bool) -> None:
    from virtio.cli import spec_data, spec_text

    emit(spec_data.devices(), as_json, spec_text.devices)


@command.command(examples=[("virtio spec devices --json", "every device type, as JSON")])
@json_option
def devices(as_json: bool) -> None:
    """List the device types."""
    _devices(as_json)


@command.command(
    examples=[("virtio spec device blk", "the block device"), ("virtio spec device 26", "by number")]
)
@click.argument("name", shell_complete=_complete_device)
@json_option
def device(name: str, as_json: bool) -> None:
    """Describe a device type, by name or number."""
    from virtio.cli import spec_data, spec_text

    emit(spec_data.device(name), as_json, spec_text.device)


@command.command(
    examples=[
        ("virtio spec feature MQ", "every device type's MQ"),
        ("virtio spec feature 34", "by number"),
        ("virtio spec feature VIRTIO_NET_F_MQ", "by its full name"),
    ]
)
@click.argument("name")
@click.option("--device", "device_name", shell_complete=_complete_device, help="Only of this device type.")
@json_option
def feature(name: str, device_name: str | None, as_json: bool) -> None:
    """Explain a feature bit, by name or number."""
    from virtio.cli import spec_data, spec_text

    emit(spec_data.feature(name, device_name), as_json, spec_text.feature)


@command.command(examples=[("virtio spec decode net 0x100000083", "the bits in a feature set")])
@click.argument("device_name", metavar="DEVICE", shell_complete=_complete_device)
@click.argument("mask")
@json_option
def decode(device_name: str, mask: str, as_json: bool) -> None:
    """Name the bits in a feature set.

    And say which bit lacks another that it needs, if one does.
    """
    from virtio.cli import spec_data, spec_text

    emit(spec_data.decode(device_name, mask), as_json, spec_text.decode)


@command.command(
    examples=[("virtio spec status", "every bit"), ("virtio spec status 0x4f", "the bits in a status")]
)
@click.argument("value", required=False)
@json_option
def status(value: str | None, as_json: bool) -> None:
    """List the device status bits, or name those in a status."""
    from virtio.cli import spec_data, spec_text

    emit(spec_data.status(value), as_json, spec_text.status)


@command.command(examples=[("virtio spec messages", "every vhost-user message")])
@json_option
def messages(as_json: bool) -> None:
    """List the vhost-user messages and protocol features."""
    from virtio.cli import spec_data, spec_text

    emit(spec_data.messages(), as_json, spec_text.messages)


@command.command(
    examples=[
        ("virtio spec message SET_MEM_TABLE", "by name"),
        ("virtio spec message 5", "by number, of either side"),
    ]
)
@click.argument("name")
@json_option
def message(name: str, as_json: bool) -> None:
    """Describe a vhost-user message, by name or number."""
    from virtio.cli import spec_data, spec_text

    emit(spec_data.message(name), as_json, spec_text.message)
