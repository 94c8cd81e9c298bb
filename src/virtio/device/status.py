"""The device status and the ways through it (virtio 1.4, 2.1 and 3.1.1).

::

       0 --ACKNOWLEDGE--> --DRIVER--> --(features)--> --FEATURES_OK--> --(queues)--> --DRIVER_OK--> live
       ^                                                   |                                      |
       |                                        not acceptable: the device                a queue or device
       |                                        leaves FEATURES_OK clear                  fails: NEEDS_RESET
       +---- the driver writes 0 (reset), from anywhere; FAILED may be added anywhere ------------+

A legacy driver (VERSION_1 not accepted) goes from DRIVER to DRIVER_OK without FEATURES_OK.
"""

from __future__ import annotations

from virtio.spec.status import (
    ACKNOWLEDGE,
    DEVICE_NEEDS_RESET,
    DRIVER,
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    describe,
)

__all__ = ["after", "problems"]

# bit -> what must be set before it, and the same for a legacy driver
STEPS = {
    ACKNOWLEDGE: (0, 0),
    DRIVER: (ACKNOWLEDGE, ACKNOWLEDGE),
    FEATURES_OK: (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER),
    DRIVER_OK: (ACKNOWLEDGE | DRIVER | FEATURES_OK, ACKNOWLEDGE | DRIVER),
    FAILED: (0, 0),
}
KNOWN = sum(STEPS) | DEVICE_NEEDS_RESET


def after(old: int, written: int, *, features_acceptable: bool) -> int:
    """The status after a driver wrote ``written`` (not 0) over ``old``.

    DEVICE_NEEDS_RESET is the device's own bit and stays as it is. Bits once set stay set: only a reset
    clears them. FEATURES_OK stays clear unless the features are acceptable.
    """
    new = old | (written & KNOWN & ~DEVICE_NEEDS_RESET)
    if not features_acceptable and not old & FEATURES_OK:
        new &= ~FEATURES_OK
    return new


def problems(old: int, written: int, *, legacy: bool = False) -> list[str]:
    """What is wrong with a driver writing ``written`` over ``old``, in words; nothing for a reset.

    Front-ends of vhost-user are known to set several bits at once and FEATURES_OK first, so a transport
    reports these rather than refuse them.
    """
    if written == 0:
        return []
    found = [f"unknown status bits {written & ~KNOWN:#x}"] if written & ~KNOWN else []
    for bit, (modern_before, legacy_before) in STEPS.items():
        if old & bit and not written & bit:
            found.append(f"{describe(bit)} cleared without a reset")
        missing = (legacy_before if legacy else modern_before) & ~(old | written)
        if written & bit and not old & bit and missing:
            found.append(f"{describe(bit)} set before {describe(missing)}")
    return found
