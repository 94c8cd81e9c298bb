"""``virtio io SOCKET info``: what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from virtio.cli.command import json_option
from virtio.cli.io.target import Target, command
from virtio.cli.output import emit, table

if TYPE_CHECKING:
    from virtio.drivers import Blk, Driver, Net

__all__ = ["rows"]


@command.command(examples=[("virtio io S info --json", "for programs")])
@json_option
@click.pass_obj
def info(target: Target, as_json: bool) -> None:
    """Say what the disk, or the NIC, is."""
    from virtio.drivers import Net

    with target.either() as driver:
        data = _of_nic(driver) if isinstance(driver, Net) else _of_disk(driver)
    emit(data, as_json, lambda data: table(rows(data)))


def _of_disk(disk: Blk) -> dict[str, Any]:
    from dataclasses import asdict

    from virtio.errors import RequestFailedError

    try:
        serial = disk.serial
    except RequestFailedError:
        serial = ""  # GET_ID is not for every device
    return {
        "serial": serial,
        "read_only": disk.read_only,
        "writeback": disk.writeback,
        **asdict(disk.properties),
        "features": _features(disk),
    }


def _of_nic(nic: Net) -> dict[str, Any]:
    return {
        "mac": nic.mac,
        "link_up": nic.link_up,
        "mtu": nic.mtu,
        "max_pairs": nic.max_pairs,
        "control_queue": nic.control is not None,
        **{name: nic.config[name] for name in ("speed", "duplex") if name in nic.config},
        "features": _features(nic),
    }


def _features(driver: Driver) -> list[str]:
    from virtio.spec import features as bits

    return [bits.name(driver.device_id, bit) for bit in bits.bits(driver.features)]


def rows(data: dict[str, Any]) -> list[tuple[str, object]]:
    """Names and values in words, for `table`."""

    def text(value: object) -> object:
        if value is None:
            return "not said"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return " ".join(value) if isinstance(value, list) else value

    return [(name.replace("_", " "), text(value)) for name, value in data.items()]
