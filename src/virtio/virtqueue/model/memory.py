"""The memory that driver and device share, as numbered bytes."""

from __future__ import annotations

import struct
from typing import Literal

from .chain import Malformed

__all__ = ["ByteOrder", "Memory"]

ByteOrder = Literal["little", "big"]
Bytes = bytearray | memoryview

# struct's letters for the four unsigned sizes of the specification's fields.
LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Memory:
    """Guest-physical memory: one or more regions of bytes, each starting at an address.

    ``Memory(bytearray(4096))`` is one region at address 0; further ones are given as ``{address: bytes}``.
    Regions must not overlap. A range may run from one region into another that follows it directly.
    """

    def __init__(self, data: Bytes | dict[int, Bytes], byte_order: ByteOrder = "little") -> None:
        self.regions = data if isinstance(data, dict) else {0: data}
        self.mark = "<" if byte_order == "little" else ">"

    def locate(self, address: int) -> tuple[Bytes, int]:
        """The region that holds ``address``, and the offset in it."""
        for start, data in self.regions.items():
            if start <= address < start + len(data):
                return data, address - start
        raise Malformed("ADDRESS", address)

    def check(self, address: int, length: int) -> None:
        """Refuse a range of which any byte is not in memory."""
        if address + length > 1 << 64:
            raise Malformed("ADDRESS_WRAPS", address)
        end = address + length
        while address < end:
            data, offset = self.locate(address)
            address += len(data) - offset

    def read(self, address: int, length: int) -> bytes:
        """The bytes of a range that lies in memory."""
        self.check(address, length)
        found = b""
        while len(found) < length:
            data, offset = self.locate(address + len(found))
            found += bytes(data[offset : offset + length - len(found)])
        return found

    def write(self, address: int, content: bytes) -> None:
        """Replace the bytes of a range that lies in memory."""
        self.check(address, len(content))
        while content:
            data, offset = self.locate(address)
            room = min(len(data) - offset, len(content))
            data[offset : offset + room] = content[:room]
            address, content = address + room, content[room:]

    def load(self, address: int, size: int) -> int:
        """An unsigned field of ``size`` bytes, in this memory's byte order."""
        (value,) = struct.unpack(self.mark + LETTERS[size], self.read(address, size))
        return int(value)

    def store(self, address: int, size: int, value: int) -> None:
        """Write an unsigned field of ``size`` bytes."""
        self.write(address, struct.pack(self.mark + LETTERS[size], value))
