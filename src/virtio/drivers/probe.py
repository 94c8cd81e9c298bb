"""Finds out what is behind a vhost-user socket, without starting the device.

Vhost-user does not say which type of device it is. It is guessed: a type must know every feature bit offered
and have what each of them needs; of those, the one whose configuration space makes most sense wins.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from socket import socket
from typing import Any

from virtio.drivers.configuration import config_size, decode_config
from virtio.drivers.connecting import open_frontend
from virtio.errors import FeatureError, VirtioError
from virtio.spec import DEVICES, device
from virtio.spec import features as bits
from virtio.vhost_user.frontend import Frontend
from virtio.vhost_user.messages import ProtocolFeature

__all__ = ["Finding", "fitting", "probe", "ranked"]

OWN_BITS = bits.mask(*range(24), 42, *range(50, 128))  # the device types' own feature bits
# When nothing else decides: the types met most often first.
FAMILIAR = ("blk", "net", "entropy", "fs", "vsock", "console", "scsi", "input", "gpu")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a back-end said of itself, and what was made of it.

    ``device_id`` is the best guess, None if no type fits; ``candidates`` are all that fit, best first.
    ``queues`` and ``memory_slots`` are None where the back-end does not say.
    """

    features: int
    protocol_features: int
    queues: int | None
    memory_slots: int | None
    device_id: int | None
    candidates: tuple[int, ...]
    config: dict[str, Any]


def probe(
    address: str | os.PathLike[str] | socket, *, device_id: int | None = None, timeout: float = 5.0
) -> Finding:
    """Ask the back-end at a path (or behind a connected socket); ``device_id`` instead of guessing.

    HostError says why nothing listens; ProtocolError, DeviceGoneError or DeviceTimeoutError that it is no
    vhost-user back-end.
    """
    with open_frontend(address, timeout) as front:
        features = front.get_features()
        offered = front.get_protocol_features() if front.protocol_features else 0
        queues = front.get_queue_num() if front.has(ProtocolFeature.MQ) else None
        slots = front.get_max_mem_slots() if front.has(ProtocolFeature.CONFIGURE_MEM_SLOTS) else None
        kinds = ranked(front, features) if device_id is None else [device_id]
        config = _read(front, kinds[0], features) if kinds else {}
    return Finding(
        features=features,
        protocol_features=offered,
        queues=queues,
        memory_slots=slots,
        device_id=kinds[0] if kinds else None,
        candidates=tuple(kinds),
        config=config,
    )


def ranked(front: Frontend, features: int) -> list[int]:
    """The device types that can be it, the likeliest first."""
    scores = {kind: _score(front, kind, features) for kind in fitting(features)}
    return sorted(scores, key=lambda kind: (-scores[kind], _familiarity(kind), kind))


def fitting(features: int) -> list[int]:
    """The device types that know all these features, and have what each of them needs."""
    return [entry.id for entry in DEVICES if entry.chapter and _fits(entry.id, features)]


def _fits(kind: int, features: int) -> bool:
    known = bits.mask(*device(kind).features.values())
    try:
        bits.check(kind, features)
    except FeatureError:
        return False
    return not features & OWN_BITS & ~known


def _familiarity(kind: int) -> int:
    name = device(kind).name
    return FAMILIAR.index(name) if name in FAMILIAR else len(FAMILIAR)


def _score(front: Frontend, kind: int, features: int) -> int:
    """How much speaks for a type: 2 much, 1 a little, 0 nothing, -1 something speaks against it."""
    if device(kind).config is None:
        return -1 if any(_bytes(front, 8)) else 1
    if not front.has(ProtocolFeature.CONFIG):
        return 0
    data = _bytes(front, config_size(device(kind), features))
    if not any(data):
        return -1
    sensible = SENSIBLE.get(device(kind).name)
    if sensible is None:
        return 0
    return 2 if sensible(decode_config(device(kind), features, data)) else -1


def _read(front: Frontend, kind: int, features: int) -> dict[str, Any]:
    """The configuration as that type's."""
    data = _bytes(front, config_size(device(kind), features))
    return decode_config(device(kind), features, data) if data else {}


def _bytes(front: Frontend, size: int) -> bytes:
    """The start of the configuration space; nothing if the back-end does not give it."""
    if not size or not front.has(ProtocolFeature.CONFIG):
        return b""
    try:
        return front.get_config(0, size)
    except VirtioError:
        return b""


def _sensible_blk(config: dict[str, Any]) -> bool:
    size = config.get("blk_size", 512)
    return 0 < config["capacity"] < 1 << 52 and 512 <= size <= 1 << 20 and not size & (size - 1)


def _sensible_fs(config: dict[str, Any]) -> bool:
    tag, queues = config["tag"], config["num_request_queues"]
    return bool(tag) and ":" not in tag and 0 < queues <= 1024


def _sensible_net(config: dict[str, Any]) -> bool:
    mac = config.get("mac")
    return mac is None or bool(mac.strip("0:"))


def _sensible_vsock(config: dict[str, Any]) -> bool:
    return 3 <= int(config["guest_cid"]) < 1 << 32


SENSIBLE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "blk": _sensible_blk,
    "fs": _sensible_fs,
    "net": _sensible_net,
    "vsock": _sensible_vsock,
}
