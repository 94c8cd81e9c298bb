"""A queue's fault as an exception whose message has the offending number in it."""

from __future__ import annotations

from virtio.errors import RING_FAULTS, DeviceError, DriverError

__all__ = ["ring_error"]

# By RingFault. {0} is the number that the queue kept, {1} the queue's size.
_MESSAGES = {
    -1: "available index {0} is more than {1} ahead of the device",
    -2: "descriptor index {0} is not below its table's size",
    -3: "the chain of descriptor {0} visits more than {1} descriptors",
    -4: "descriptor {0} is an indirect one, which was not negotiated",
    -5: "the indirect table at {0:#x} contains an indirect descriptor",
    -6: "descriptor {0} has both INDIRECT and NEXT set",
    -7: "an indirect table of {0} bytes",
    -8: "address {0:#x} is not guest memory that can be used so",
    -9: "a buffer at {0:#x} passes 2**64",
    -10: "the buffer at {0:#x} has no bytes",
    -11: "a chain of {0} bytes",
    -12: "the device-readable buffer at {0:#x} follows a device-writable one",
    -13: "chain {0} is available while {1} chains are outstanding, as many as there are descriptors",
    -14: "chain {0} has no buffer",
    -15: "the packed chain at descriptor {0} runs into a descriptor that is not available",
    -16: "a page of guest memory vanished: its file was truncated or could not be read",
    -17: "address {0:#x} is not translated by the I/O TLB",
    -18: "no memory for a chain with a segment of {0} bytes",
    -32: "used index {0} passes all that is outstanding",
    -33: "chain {0} was used without being outstanding and next in turn",
    -34: "the device says it wrote {0} bytes, more than the chain holds",
}


def ring_error(fault: int, detail: int, size: int) -> DriverError | DeviceError:
    """The exception for a RingFault; ``detail`` is the number kept with it, ``size`` the queue's size."""
    return RING_FAULTS[fault](_MESSAGES[fault].format(detail, size))
