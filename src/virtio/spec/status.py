"""Device status bits (virtio 1.4, 2.1 "Device Status Field"), in the order in which a driver sets them."""

from __future__ import annotations

__all__ = [
    "ACKNOWLEDGE",
    "BITS",
    "DEVICE_NEEDS_RESET",
    "DRIVER",
    "DRIVER_OK",
    "FAILED",
    "FEATURES_OK",
    "RESET",
    "SUSPEND",
    "describe",
]

RESET = 0
ACKNOWLEDGE = 1
DRIVER = 2
FEATURES_OK = 8
DRIVER_OK = 4
SUSPEND = 16
DEVICE_NEEDS_RESET = 64
FAILED = 128

BITS: dict[str, tuple[int, str]] = {
    "ACKNOWLEDGE": (ACKNOWLEDGE, "the guest has noticed the device"),
    "DRIVER": (DRIVER, "the guest knows how to drive it"),
    "FEATURES_OK": (FEATURES_OK, "the driver has chosen its features, and the device agrees"),
    "DRIVER_OK": (DRIVER_OK, "the driver is ready: the device is live"),
    "SUSPEND": (SUSPEND, "the device is suspended"),
    "DEVICE_NEEDS_RESET": (DEVICE_NEEDS_RESET, "the device has met an error it cannot recover from"),
    "FAILED": (FAILED, "the guest has given up on the device"),
}
"""Each bit's value and meaning by name."""


def describe(status: int) -> str:
    """A status in words: "ACKNOWLEDGE DRIVER", "0 (reset)"."""
    if not status:
        return "0 (reset)"
    names = [name for name, (bit, _) in BITS.items() if status & bit]
    unknown = status & ~sum(bit for bit, _ in BITS.values())
    return " ".join([*names, *([f"{unknown:#x}"] if unknown else [])])
