"""What each sector of the tested span must hold, and who uses it at the moment.

A sector has a generation, which says what must be read there, and a lock, which many reads or one change hold
while in flight: so every read has one right answer.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.virtio.testing.integrity.pattern import (
    CORRUPT,
    FINE,
    MISPLACED,
    OR_ZEROES,
    SECTOR,
    STALE,
    UNKNOWN,
    ZEROES,
    fill_sector,
    judge,
)
from cython.cimports.virtio.testing.integrity.sectors import T_DISCARD, T_IN, T_OUT, WRITER

__all__ = ["Sectors"]


@cython.cclass
class Sectors:
    """``span`` sectors, all of which read as zeroes at first."""

    def __init__(self, span: int, salt: int) -> None:
        i: uint64_t
        if self.generations != cython.NULL:
            raise TypeError("made once")
        self.span, self.salt = span, salt
        self.generations = cython.cast(cython.pointer[uint32_t], calloc(self.span, 4))
        self.locks = cython.cast(cython.pointer[cython.uchar], calloc(self.span, 1))
        if self.generations == cython.NULL or self.locks == cython.NULL:
            raise MemoryError
        for i in range(self.span):
            self.generations[i] = ZEROES

    def __dealloc__(self) -> None:
        free(self.generations)
        free(self.locks)

    @property
    def wrong(self) -> dict[str, int]:
        """Sectors that were read and were not as they must be, by what was wrong with them."""
        names = {CORRUPT: "corrupt", STALE: "stale", MISPLACED: "misplaced"}
        return {name: self.verdicts[verdict] for verdict, name in names.items() if self.verdicts[verdict]}

    def lock(self, slot):
        """Reads share sectors with reads, all else has them alone. False if they are not free."""
        i: uint64_t
        end: uint64_t = slot.sector + slot.sectors
        held: uint32_t
        for i in range(slot.sector, end):
            held = self.locks[i]
            if held >= WRITER - 1 or (held and slot.kind != T_IN):
                return False
        for i in range(slot.sector, end):
            self.locks[i] = self.locks[i] + 1 if slot.kind == T_IN else WRITER
        return True

    def unlock(self, slot):
        """Let others have them."""
        i: uint64_t
        for i in range(slot.sector, slot.sector + slot.sectors):
            self.locks[i] = self.locks[i] - 1 if slot.kind == T_IN else 0

    def fill(self, slot):
        """Write the data of a write."""
        i: uint64_t
        words: cython.pointer[uint64_t] = cython.cast(cython.pointer[uint64_t], slot.data + slot.shift)
        for i in range(slot.sectors):
            fill_sector(words + i * (SECTOR // 8), slot.sector + i, slot.generation, self.salt)

    def blank(self, slot):
        """What an earlier request left in a read's memory must not be taken for an answer."""
        i: uint64_t
        words: cython.pointer[uint64_t] = cython.cast(cython.pointer[uint64_t], slot.data + slot.shift)
        for i in range(slot.sectors):
            words[i * (SECTOR // 8)] = ~cython.cast(uint64_t, 0)

    def record(self, slot, succeeded):
        """What must be read from now on."""
        i: uint64_t
        if slot.kind == T_OUT:
            self.written += slot.sectors
        for i in range(slot.sector, slot.sector + slot.sectors):
            if not succeeded:
                self.generations[i] = UNKNOWN
            elif slot.kind != T_DISCARD:
                self.generations[i] = slot.generation
            elif self.generations[i] > ZEROES:
                self.generations[i] |= cython.cast(uint32_t, OR_ZEROES)

    def check(self, slot):
        """Hold each sector that was read against what must be there."""
        i: uint64_t
        verdict: cython.int
        words: cython.pointer[uint64_t] = cython.cast(cython.pointer[uint64_t], slot.data + slot.shift)
        for i in range(slot.sectors):
            verdict = judge(
                words + i * (SECTOR // 8), slot.sector + i, self.generations[slot.sector + i], self.salt
            )
            if verdict != FINE:
                if self.verdicts[CORRUPT] + self.verdicts[STALE] + self.verdicts[MISPLACED] == 0:
                    self.first_wrong = (slot.sector + i) * SECTOR
                self.verdicts[verdict] += 1
        self.checked += slot.sectors
