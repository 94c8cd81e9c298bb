"""Which ring an input is about."""

from __future__ import annotations

from reading import Reader
from virtio.testing.rig import RING_PACKED, Rig

INDIRECT_DESC, EVENT_IDX, IN_ORDER = 1 << 28, 1 << 29, 1 << 35
CHOICES = (INDIRECT_DESC, EVENT_IDX, IN_ORDER, RING_PACKED)


def read_rig(source: Reader) -> Rig:
    """Two bytes: features, then the size and byte order. Bit 4 of the first is left to the caller."""
    bits, size = source.number(1), source.number(1)
    features = sum(feature for place, feature in enumerate(CHOICES) if bits >> place & 1)
    packed = bool(features & RING_PACKED)
    entries = size % 9 + 1 if packed else 1 << size % 4
    return Rig(
        size=entries,
        features=features,
        byte_order="big" if size & 0x80 and not packed else "little",
        table_entries=min(4, entries),
    )
