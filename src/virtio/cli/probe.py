"""``virtio probe``: what is behind a vhost-user socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from virtio.cli.command import Command, json_option
from virtio.cli.output import emit, table

if TYPE_CHECKING:
    from virtio.drivers.probe import Finding

Data = dict[str, Any]


@click.command(
    cls=Command,
    examples=[
        ("virtio probe /tmp/disk.sock", "the device's features, queues and configuration"),
        ("virtio probe /tmp/disk.sock --json", "the same for programs"),
        ("virtio probe /tmp/some.sock --device fs", "read its configuration as a file system's"),
    ],
)
@click.argument("socket")
@click.option("--device", "device_name", help="The device type, where the guess is wrong.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for each answer.")
@json_option
def command(socket: str, device_name: str | None, timeout: float, as_json: bool) -> None:
    """Say what is behind a vhost-user socket.

    The device is not started. Which type it is, vhost-user does not say: that is a guess.
    """
    from virtio.drivers.probe import probe
    from virtio.spec import ids

    device_id = None if device_name is None else ids.find(device_name).id
    emit(_data(probe(socket, device_id=device_id, timeout=timeout)), as_json, _in_words)


def _data(found: Finding) -> Data:
    from virtio.spec import features as bits
    from virtio.spec import ids

    kind = found.device_id
    known = bits.of(kind) if kind is not None else dict(bits.RESERVED)
    meaning = {int(bit): (name, bit.doc) for name, bit in known.items()}
    return {
        "device_id": kind,
        "device": None if kind is None else ids.name(kind),
        "candidates": [ids.name(candidate) for candidate in found.candidates],
        "queues": found.queues,
        "memory_slots": found.memory_slots,
        "features": [
            {"bit": bit, "name": name, "meaning": doc}
            for bit in bits.bits(found.features)
            for name, doc in [meaning.get(bit, (f"bit {bit}", "nobody has named it"))]
        ],
        "protocol_features": _protocol_features(found.protocol_features),
        "config": found.config,
    }


def _protocol_features(mask: int) -> list[Data]:
    from virtio.spec import features as bits
    from virtio.vhost_user.messages import ProtocolFeature

    names = {int(feature): feature.name for feature in ProtocolFeature}
    return [{"bit": bit, "name": names.get(bit, f"bit {bit}")} for bit in bits.bits(mask)]


def _in_words(data: Data) -> str:
    parts = [table(_head(data))]
    for title, key, columns in (
        ("Features", "features", ("bit", "name", "meaning")),
        ("Protocol features of vhost-user", "protocol_features", ("bit", "name")),
    ):
        rows = [[entry[column] for column in columns] for entry in data[key]]
        parts.append(f"{title}\n" + (table(rows, indent=2) if rows else "  none"))
    if data["config"]:
        parts.append("Configuration\n" + table(_flat(data["config"]), indent=2))
    return "\n\n".join(parts)


def _head(data: Data) -> list[tuple[str, str]]:
    others = data["candidates"][1:4]
    guess = "unknown: no device type has these features"
    if data["device"] is not None:
        guess = f"{data['device']} (device id {data['device_id']})"
        guess += f"; {', '.join(others)} would fit too" if others else ""
    queues, slots = data["queues"], data["memory_slots"]
    return [
        ("device", guess),
        *_nic(data),
        ("queues", "the back-end does not say" if queues is None else f"up to {queues}"),
        ("memory", "8 regions in one table" if slots is None else f"up to {slots} regions, one by one"),
    ]


def _nic(data: Data) -> list[tuple[str, str]]:
    """What a NIC's configuration comes to."""
    config = data["config"]
    if data["device"] != "net" or not config:
        return []
    said = [config["mac"]] if "mac" in config else []
    if "status" in config:
        said.append("link up" if config["status"] & 1 else "link down")
    said += [f"MTU {config['mtu']}"] if "mtu" in config else []
    pairs = config.get("max_virtqueue_pairs", 1)
    said.append("1 pair of queues" if pairs == 1 else f"{pairs} pairs of queues")
    return [("nic", ", ".join(said))]


def _flat(config: Data, prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in config.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows
