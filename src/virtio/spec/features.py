"""Feature bits: the reserved ones, sets of them, and what they need of each other.

Virtio 1.4, 2.2 "Feature Bits" and 6 "Reserved Feature Bits". A feature set is an int with bit N set for
feature N; sets are wider than 64 bits. Bits 0 to 23, 41, 42 and 50 to 127 belong to the device types
(``virtio.spec.blk.F_RO``), bits 24 to 40 and 43 to the queues and the negotiation (here).
"""

from __future__ import annotations

from collections.abc import Mapping

from virtio.errors import FeatureError
from virtio.spec import ids
from virtio.spec.declare import Feature

__all__ = [
    "ACCESS_PLATFORM",
    "ADMIN_VQ",
    "ANY_LAYOUT",
    "EVENT_IDX",
    "INDIRECT_DESC",
    "IN_ORDER",
    "NOTIFICATION_DATA",
    "NOTIFY_ON_EMPTY",
    "NOTIF_CONFIG_DATA",
    "ORDER_PLATFORM",
    "RESERVED",
    "RING_PACKED",
    "RING_RESET",
    "SR_IOV",
    "SUSPEND",
    "VERSION_1",
    "bits",
    "check",
    "mask",
    "name",
    "of",
]

NOTIFY_ON_EMPTY = Feature(24, "notify when the queue runs empty, even if suppressed", legacy=True)
ANY_LAYOUT = Feature(27, "the device makes no assumption about how messages are framed", legacy=True)
INDIRECT_DESC = Feature(28, "a descriptor may refer to a table of descriptors")
EVENT_IDX = Feature(29, "each side says at which index it wants the next notification")
VERSION_1 = Feature(32, "not a legacy device or driver")
ACCESS_PLATFORM = Feature(33, "the device's access to memory goes through the platform (an IOMMU)")
RING_PACKED = Feature(34, "the packed virtqueue layout")
IN_ORDER = Feature(35, "buffers are used in the order in which they were made available")
ORDER_PLATFORM = Feature(36, "memory accesses are ordered by the platform's own rules")
SR_IOV = Feature(37, "the device is a PCI physical function with virtual functions")
NOTIFICATION_DATA = Feature(38, "the driver's notifications carry its position in the ring")
NOTIF_CONFIG_DATA = Feature(39, "the driver's notifications carry a value the device chose")
RING_RESET = Feature(40, "one virtqueue can be reset by itself")
ADMIN_VQ = Feature(41, "the device has administration virtqueues (PCI)")
SUSPEND = Feature(43, "the driver may suspend the device")

RESERVED: Mapping[str, Feature] = {
    key: value for key, value in list(globals().items()) if isinstance(value, Feature)
}
"""The reserved bits by name."""


def mask(*bits: int) -> int:
    """The set of the given bit numbers."""
    result = 0
    for bit in bits:
        result |= 1 << bit
    return result


def bits(mask: int) -> list[int]:
    """The bit numbers in a set, ascending."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def of(device_id: int) -> dict[str, Feature]:
    """Every feature bit known of a device type, the reserved ones too, by name.

    A device's own name wins where both have one; device types without a chapter have none of their own.
    """
    own = ids.device(device_id).features if ids.has_chapter(device_id) else {}
    return {**RESERVED, **own}


def name(device_id: int, bit: int) -> str:
    """The name of a bit on a device type: "CSUM"; "bit 99" when nobody has named it."""
    return next((key for key, value in of(device_id).items() if value == bit), f"bit {bit}")


def check(device_id: int, mask: int, *, offered: int | None = None) -> None:
    """Raise FeatureError unless every bit in the set has what it needs.

    With ``offered``, also unless every bit was offered. Bits nobody has named need nothing.
    """
    known = of(device_id)
    _check_offer(device_id, mask, offered)
    for key, feature in known.items():
        if mask >> feature & 1:
            for need in feature.needs:
                _check_need(known, mask, f"{key} ({int(feature)})", need)
    if ids.has_chapter(device_id):
        for need in ids.device(device_id).requires:
            _check_need(known, mask, f"device type {ids.name(device_id)}", need)


def _check_offer(device_id: int, mask: int, offered: int | None) -> None:
    if offered is not None and mask & ~offered:
        extra = bits(mask & ~offered)[0]
        raise FeatureError(f"{name(device_id, extra)} ({extra}) was accepted but never offered")


def _check_need(known: Mapping[str, Feature], mask: int, what: str, need: str) -> None:
    choices = need.split("|")
    if not any(mask >> known[choice] & 1 for choice in choices):
        words = " or ".join(f"{choice} ({int(known[choice])})" for choice in choices)
        raise FeatureError(f"{what} needs {words}")
