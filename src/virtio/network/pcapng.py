"""The pcapng file format as bytes: the blocks of a capture, without a file.

Sections are little-endian, stamps are nanoseconds since 1970. Layouts: IETF draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum

__all__ = [
    "ETHERNET",
    "Block",
    "Direction",
    "describe_offload",
    "interface",
    "packet",
    "section_header",
    "statistics",
]

ETHERNET = 1
BYTE_ORDER = 0x1A2B3C4D
END = struct.pack("<HH", 0, 0)
COMMENT = 1
RSC_INFO = 4  # virtio_net_hdr.flags
GSO_NAMES = {1: "tcpv4", 3: "udp", 4: "tcpv6", 5: "udp-l4"}


class Block(IntEnum):
    """Types of blocks."""

    SECTION_HEADER = 0x0A0D0D0A
    INTERFACE = 1
    OLD_PACKET = 2
    SIMPLE_PACKET = 3
    STATISTICS = 5
    PACKET = 6


class Direction(IntEnum):
    """Bits 0 and 1 of epb_flags, seen from the guest's NIC."""

    UNKNOWN = 0
    IN = 1
    OUT = 2


def padded(data: bytes) -> bytes:
    """``data`` and zeroes up to a multiple of 4 bytes."""
    return data + bytes(-len(data) % 4)


def option(code: int, value: bytes) -> bytes:
    """One option."""
    return struct.pack("<HH", code, len(value)) + padded(value)


def block(kind: int, body: bytes) -> bytes:
    """A block around its body, whose length is a multiple of 4 bytes."""
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def section_header(application: str) -> bytes:
    """The block that starts a file; its length is left unknown (-1)."""
    body = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)
    return block(Block.SECTION_HEADER, body + option(4, application.encode()) + END)


def interface(name: str, snaplen: int = 0, description: str = "") -> bytes:
    """An Interface Description Block: Ethernet, nanoseconds, ``snaplen`` bytes of a frame (0: all)."""
    options = option(2, name.encode())
    if description:
        options += option(3, description.encode())
    options += option(9, b"\x09")
    return block(Block.INTERFACE, struct.pack("<HHI", ETHERNET, 0, snaplen) + options + END)


def packet(
    data: bytes,
    time: int,
    *,
    direction: Direction = Direction.UNKNOWN,
    queue: int = 0,
    original: int | None = None,
    comments: Iterable[str] = (),
    interface: int = 0,
) -> bytes:
    """An Enhanced Packet Block. ``time`` is in nanoseconds, ``original`` the frame's length before a cut."""
    length = len(data) if original is None else original
    head = struct.pack("<5I", interface, time >> 32, time & 0xFFFFFFFF, len(data), length)
    options = option(2, struct.pack("<I", direction)) + option(6, struct.pack("<I", queue))
    options += b"".join(option(COMMENT, comment.encode()) for comment in comments)
    return block(Block.PACKET, head + padded(data) + options + END)


def statistics(time: int, received: int, dropped: int, interface: int = 0) -> bytes:
    """An Interface Statistics Block: frames that came (isb_ifrecv) and those not recorded (isb_ifdrop)."""
    body = struct.pack("<3I", interface, time >> 32, time & 0xFFFFFFFF)
    options = option(4, struct.pack("<Q", received)) + option(5, struct.pack("<Q", dropped))
    return block(Block.STATISTICS, body + options + END)


def describe_offload(header: Mapping[str, int]) -> str:
    """What a frame's virtio-net header leaves to be done, as the comment in a capture; empty for nothing."""
    notes = []
    if header["flags"] & RSC_INFO:
        notes.append(f"joined of {header['csum_start']} segments; checksum not computed")
    elif header["flags"] & 1:
        at = header["csum_start"]
        notes.append(f"checksum not computed: from byte {at}, at {at + header['csum_offset']}")
    kind = header["gso_type"] & 0x7F
    if kind:
        ecn = " with ECN" if header["gso_type"] & 0x80 else ""
        name = GSO_NAMES.get(kind, "another type")
        segments = f"segments of {header['gso_size']} bytes"
        notes.append(f"not segmented: {name}{ecn}, {segments} after {header['hdr_len']} of headers")
    return "; ".join(notes)
