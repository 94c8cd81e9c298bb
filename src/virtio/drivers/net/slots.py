"""Where the buffers of a queue lie in its memory."""

from __future__ import annotations

__all__ = ["LINE", "memory_needed", "stride"]

LINE = 64
"""Bytes of a cache line."""


def stride(slot_size: int) -> int:
    """Bytes from one slot to the next: an odd number of cache lines.

    A power of two would have all frames begin in the same few sets of the caches, which then hold few.
    """
    return (-(-slot_size // LINE) | 1) * LINE


def memory_needed(slots: int, slot_size: int) -> int:
    """Bytes for so many slots, wherever in a cache line the first begins."""
    return slots * stride(slot_size) + LINE
