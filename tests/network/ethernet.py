"""Ethernet frames and their parts, for tests."""

from __future__ import annotations

BROADCAST = 0xFFFFFFFFFFFF


def station(number: int) -> int:
    """The address of a station."""
    return 0x525400000000 + number


def frame(to: int, by: int, *tags: int, payload: bytes = b"payload", ethertype: int = 0x88B5) -> bytes:
    """A frame between two addresses, with the tags' TCI in order."""
    middle = b"".join(b"\x81\x00" + tci.to_bytes(2, "big") for tci in tags)
    return to.to_bytes(6, "big") + by.to_bytes(6, "big") + middle + ethertype.to_bytes(2, "big") + payload
