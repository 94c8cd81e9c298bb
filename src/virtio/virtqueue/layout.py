"""How large the areas of a ring are, how they must be aligned, and where they can go."""

from __future__ import annotations

from dataclasses import dataclass

from virtio.errors import RingAreaError

__all__ = [
    "MAX_QUEUE_SIZE",
    "RingLayout",
    "check_packed_size",
    "check_split_size",
    "legacy_split_layout",
    "packed_layout",
    "split_layout",
]

MAX_QUEUE_SIZE = 32768
LEGACY_ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class RingLayout:
    """The three areas of a ring in bytes, and offsets at which they fit behind one another.

    ``total`` bytes aligned to ``alignment`` hold the ring.
    """

    descriptors: int
    driver_area: int
    device_area: int
    driver_offset: int
    device_offset: int
    total: int
    alignment: int = 16

    def addresses(self, base: int) -> tuple[int, int, int]:
        """Addresses of descriptor, driver and device area of a ring at ``base``."""
        return base, base + self.driver_offset, base + self.device_offset


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def check_split_size(size: int) -> None:
    """A split ring has a power of two of descriptors, up to 32768 (virtio 1.4, 2.7)."""
    if not 0 < size <= MAX_QUEUE_SIZE or size & (size - 1):
        raise RingAreaError(f"a split ring cannot have {size} descriptors: a power of two up to 32768 can be")


def check_packed_size(size: int) -> None:
    """A packed ring has any number of descriptors up to 32768 (virtio 1.4, 2.8.10.1)."""
    if not 0 < size <= MAX_QUEUE_SIZE:
        raise RingAreaError(f"a packed ring cannot have {size} descriptors: 1 to 32768 can be")


def split_layout(size: int, *, event_idx: bool = True) -> RingLayout:
    """A split ring: 16 bytes a descriptor, 6 + 2 and 6 + 8 bytes an entry of the rings (virtio 1.4, 2.7).

    Without event indexes the last two bytes of each ring are never touched and need not be there.
    """
    check_split_size(size)
    event = 2 if event_idx else 0
    descriptors, avail, used = 16 * size, 4 + 2 * size + event, 4 + 8 * size + event
    used_offset = _align(descriptors + avail, 4)
    return RingLayout(descriptors, avail, used, descriptors, used_offset, used_offset + used)


def legacy_split_layout(size: int, alignment: int = LEGACY_ALIGNMENT) -> RingLayout:
    """A legacy split ring: one area, the used ring at the next multiple of ``alignment`` (1.4, 2.7.2)."""
    check_split_size(size)
    if alignment < 4 or alignment & (alignment - 1):
        raise RingAreaError(
            f"a legacy ring cannot be aligned to {alignment}: a power of two from 4 up can be"
        )
    descriptors, avail, used = 16 * size, 6 + 2 * size, 6 + 8 * size
    used_offset = _align(descriptors + avail, alignment)
    return RingLayout(
        descriptors, avail, used, descriptors, used_offset, used_offset + _align(used, alignment), alignment
    )


def packed_layout(size: int) -> RingLayout:
    """A packed ring: 16 bytes a descriptor and two event structures of 4 bytes (virtio 1.4, 2.8.10.1)."""
    check_packed_size(size)
    descriptors = 16 * size
    return RingLayout(descriptors, 4, 4, descriptors, descriptors + 4, descriptors + 8)
