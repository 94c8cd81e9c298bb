"""What a disk was asked to keep, what it acknowledged and what it promised, held against what was found."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PLACE", "PLACES", "SECTOR", "SIZE", "Ledger"]

SIZE = 4 << 20  # bytes of the disk
PLACE = 16384  # bytes for each record, of which it fills a part
PLACES = SIZE // PLACE
SECTOR = 512
RECORD = struct.Struct("<QQ")


@dataclass
class Ledger:
    """Generations of each place's record: last begun, last acknowledged, and last promised to be durable.

    A disk with a volatile cache promises when it acknowledges a flush, for what it had acknowledged before
    the flush was sent; one without (``writeback`` False) with each acknowledgement.
    """

    writeback: bool
    rng: random.Random
    begun: dict[int, int] = field(default_factory=dict)
    acknowledged: dict[int, int] = field(default_factory=dict)
    durable: dict[int, int] = field(default_factory=dict)
    writes: int = 0
    flushes: int = 0
    torn: int = 0
    lost: int = 0

    @staticmethod
    def length(place: int) -> int:
        """Bytes of a place's record: each has a length of its own, 512 to 16384."""
        return SECTOR * (1 + place * 7919 % (PLACE // SECTOR))

    def begin(self, place: int) -> bytes:
        """The next record of a place."""
        self.begun[place] = self.begun.get(place, 0) + 1
        return RECORD.pack(place, self.begun[place]) * (self.length(place) // RECORD.size)

    def acknowledge(self, place: int) -> int:
        """The device says that it wrote what was begun last. The bytes."""
        self.acknowledged[place] = self.begun[place]
        self.writes += 1
        if not self.writeback:
            self.durable[place] = self.begun[place]
        return self.length(place)

    def promise(self, when_sent: Mapping[int, int]) -> None:
        """A flush is acknowledged, which was sent when so much was acknowledged."""
        self.flushes += 1
        for place, generation in when_sent.items():
            self.durable[place] = max(generation, self.durable.get(place, 0))

    def faults(self, disk: bytes, least: Mapping[int, int]) -> list[str]:
        """What is wrong with the bytes of a disk, which must have at least these generations.

        Each sector is a whole one of a generation begun, unless a write to it was cut short: then each byte
        is of one. Counts sectors cut short in ``torn``, those older than acknowledged in ``lost``.
        """
        found = []
        for place, begun in self.begun.items():
            start = place * PLACE
            for at in range(start, start + self.length(place), SECTOR):
                fault = self._fault(disk[at : at + SECTOR], place, least.get(place, 0), begun)
                if fault:
                    found.append(f"byte {at}: {fault}")
        return found

    def _fault(self, sector: bytes, place: int, least: int, begun: int) -> str | None:
        owner, generation = RECORD.unpack_from(sector)
        if sector == _sector(owner, generation):
            if owner != (place if generation else 0):
                return f"a record of place {owner}, not of {place}"
            if not least <= generation <= begun:
                return f"generation {generation}, not {least} to {begun}"
            self.lost += generation < self.acknowledged.get(place, 0)
            return None
        if least == begun:
            return f"torn, though generation {begun} was complete"
        candidates = [_sector(place if number else 0, number) for number in range(least, begun + 1)]
        if not all(
            byte in column for byte, column in zip(sector, zip(*candidates, strict=True), strict=True)
        ):
            return f"bytes that are of no generation {least} to {begun}"
        self.torn += 1
        return None


def _sector(place: int, generation: int) -> bytes:
    return RECORD.pack(place, generation) * (SECTOR // RECORD.size)
