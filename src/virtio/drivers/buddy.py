"""A buddy allocator over a range of offsets: power-of-two blocks that join when both halves are free."""

from __future__ import annotations

__all__ = ["BuddyAllocator"]

SMALLEST = 6  # log2 of the smallest block: 64 bytes, a cache line


class BuddyAllocator:
    """Hands out offsets below ``size``, each aligned to its own block size (a power of two)."""

    def __init__(self, size: int) -> None:
        if size < 1 << SMALLEST or size & (size - 1):
            raise ValueError(f"{size} is not a power of two of at least {1 << SMALLEST}")
        self.size = size
        self.free_bytes = size
        self._top = size.bit_length() - 1
        self._free: list[set[int]] = [set() for _ in range(self._top + 1)]
        self._free[self._top].add(0)
        self._orders: dict[int, int] = {}

    def allocate(self, size: int) -> int | None:
        """The offset of a block of at least ``size`` bytes, or None if no such block is free."""
        wanted = max(SMALLEST, (size - 1).bit_length())
        order = wanted
        while order <= self._top and not self._free[order]:
            order += 1
        if order > self._top:
            return None
        offset = self._free[order].pop()
        while order > wanted:
            order -= 1
            self._free[order].add(offset + (1 << order))
        self._orders[offset] = wanted
        self.free_bytes -= 1 << wanted
        return offset

    def release(self, offset: int) -> None:
        """Take a block back and join it with its free neighbours."""
        order = self._orders.pop(offset)
        self.free_bytes += 1 << order
        while order < self._top:
            buddy = offset ^ (1 << order)
            if buddy not in self._free[order]:
                break
            self._free[order].remove(buddy)
            offset = min(offset, buddy)
            order += 1
        self._free[order].add(offset)
