"""How a program joins a switch of another one: the messages before the frames.

Over a unix socket of type SEQPACKET, so that each message is a packet. Two bytes begin each: its type and the
version, 1. What follows:

======== ==== ======================================================================================
message  type then
======== ==== ======================================================================================
HELLO    1    to the switch, once: JSON, the options of a port as in its URL, all of them text
FRAME    2    both ways: struct virtio_net_hdr without num_buffers (10 bytes, little-endian), the frame
WELCOME  3    from the switch: JSON, ``{"port": NAME, "switch": NAME}``; now frames may flow
REFUSED  4    from the switch: JSON, ``{"error": TEXT}``; then it closes
QUERY    5    to the switch, instead of HELLO: nothing
REPORT   6    from the switch: a piece of JSON, see `describe`; an empty one is the end, and it closes
======== ==== ======================================================================================

Who sends anything else is disconnected. A frame whose header asks for what cannot be is dropped and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from virtio.errors import NetworkError, NetworkUrlError
from virtio.network.switch.settings import OPTIONS, PortSettings

if TYPE_CHECKING:
    from virtio.network.switch.fabric import Switch

__all__ = ["LONGEST_HELLO", "Message", "decode", "describe", "encode", "hello", "read_hello", "report"]

VERSION = 1
LONGEST_HELLO = 4096
PIECE = 32768


class Message(IntEnum):
    """The types of messages."""

    HELLO = 1
    FRAME = 2
    WELCOME = 3
    REFUSED = 4
    QUERY = 5
    REPORT = 6


def encode(kind: Message, body: bytes = b"") -> bytes:
    """A message as a packet."""
    return bytes((kind, VERSION)) + body


def decode(packet: bytes) -> tuple[Message, bytes]:
    """The opposite. Raises NetworkError."""
    if len(packet) < 2 or packet[1] != VERSION:
        raise NetworkError(
            "the program at the other end does not speak version 1 of a shared switch's messages"
        )
    try:
        return Message(packet[0]), packet[2:]
    except ValueError:
        raise NetworkError(f"a shared switch has no message of type {packet[0]}") from None


def body(text: bytes) -> dict[str, Any]:
    """The JSON object in a message. Raises NetworkError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NetworkError("a shared switch's message is no JSON object")
    return found


def hello(settings: PortSettings) -> bytes:
    """The packet that asks for a port."""
    return encode(Message.HELLO, json.dumps(settings.options()).encode())


def read_hello(text: bytes) -> PortSettings:
    """The port that a HELLO asks for. Raises NetworkError or NetworkUrlError."""
    options = body(text)
    for name, value in options.items():
        if name not in OPTIONS or not isinstance(value, str):
            raise NetworkUrlError(f"a port has no option {name!r}, or not of that kind")
    return PortSettings.parse(options)


def report(switch: Switch) -> Iterator[bytes]:
    """The packets that answer a QUERY."""
    text = json.dumps(describe(switch)).encode()
    for start in range(0, len(text), PIECE):
        yield encode(Message.REPORT, text[start : start + PIECE])
    yield encode(Message.REPORT)


def describe(switch: Switch) -> dict[str, Any]:
    """A switch as data: its ports with settings and counters, and its table of addresses."""
    ports = switch.ports
    names = {port.number: port.port_name for port in ports}
    return {
        "name": switch.name,
        "ageing": switch.fdb.ageing,
        "capacity": switch.fdb.capacity,
        "ports": [
            {
                "port": port.port_name,
                "connected": port.connected,
                "settings": {k: v for k, v in port.settings.options().items() if k != "port"},
                "counters": port.stats(),
            }
            for port in ports
        ],
        "stations": [
            {"vlan": s.vlan, "address": s.address, "port": names.get(s.port, "?"), "age": s.age}
            for s in switch.stations()
        ],
    }
