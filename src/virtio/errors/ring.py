"""Virtqueues that are malformed: one class for each way, of the driver's and of the device's doing."""

from __future__ import annotations

from virtio.errors.base import DeviceError, DriverError

__all__ = [
    "RING_FAULTS",
    "AddressWrapError",
    "BufferAddressError",
    "ChainLoopError",
    "ChainMemoryError",
    "ChainOrderError",
    "ChainTruncatedError",
    "DescriptorIndexError",
    "EmptyChainError",
    "IndexJumpError",
    "IndirectNestedError",
    "IndirectNextError",
    "IndirectSizeError",
    "IndirectUnexpectedError",
    "IotlbMissError",
    "LengthOverflowError",
    "LengthZeroError",
    "MemoryGoneError",
    "RingAreaError",
    "RingError",
    "TooManyChainsError",
    "UsedIdError",
    "UsedIndexError",
    "UsedLengthError",
]


class RingError(DriverError):
    """The driver's virtqueue is malformed; that queue has been stopped, the device lives on."""

    code = "E-RING"
    fix = "reset the device from the guest; if it recurs, the guest's driver has a bug"


class RingAreaError(RingError):
    """A ring cannot be where it is said to be: outside memory, misaligned, in two regions, of a wrong size.

    Virtio 1.4, 2.7 and 2.8.10.1: descriptors are aligned to 16, a split ring's available ring to 2 and its
    used ring to 4, a packed ring's event structures to 4. Each area lies in one region of guest memory.
    """

    code = "E-RING-AREA"


class IndexJumpError(RingError):
    """The available index ran ahead of the device by more than the queue's size.

    Virtio 1.4, 2.7.6: at most as many chains can be available as the queue has descriptors.
    """

    code = "E-RING-INDEX"


class DescriptorIndexError(RingError):
    """A head or next field names a descriptor at or above the size of its table.

    Virtio 1.4, 2.7.5.
    """

    code = "E-RING-DESCRIPTOR"


class ChainLoopError(RingError):
    """A descriptor chain visits more descriptors than the queue has, which means that it loops.

    Virtio 1.4, 2.7.5.3.1: no chain may be longer than the queue. Linux does make longer ones in indirect
    tables, so these may have up to 1024 descriptors on a shorter queue.
    """

    code = "E-RING-LOOP"


class IndirectUnexpectedError(RingError):
    """A descriptor refers to an indirect table although INDIRECT_DESC was not negotiated.

    Virtio 1.4, 2.7.5.3.1.
    """

    code = "E-RING-INDIRECT"


class IndirectNestedError(RingError):
    """An indirect table contains a descriptor that refers to another indirect table.

    Virtio 1.4, 2.7.5.3.1.
    """

    code = "E-RING-NESTED"


class IndirectNextError(RingError):
    """A descriptor has both INDIRECT and NEXT set: an indirect table must end its chain.

    Virtio 1.4, 2.7.5.3.1.
    """

    code = "E-RING-INDIRECT-NEXT"


class IndirectSizeError(RingError):
    """An indirect table has no bytes, or its size is not a multiple of 16.

    Virtio 1.4, 2.7.5.3: the table is made of descriptors of 16 bytes.
    """

    code = "E-RING-INDIRECT-SIZE"


class BufferAddressError(RingError):
    """A descriptor's bytes lie outside guest memory, or where the device may not access them so."""

    code = "E-RING-ADDRESS"


class AddressWrapError(RingError):
    """A descriptor's address plus its length passes 2**64."""

    code = "E-RING-WRAP"


class LengthZeroError(RingError):
    """A descriptor describes no bytes."""

    code = "E-RING-ZERO"


class LengthOverflowError(RingError):
    """The bytes of a descriptor chain pass 2**32.

    Virtio 1.4, 2.7.5.2.
    """

    code = "E-RING-LENGTH"


class ChainOrderError(RingError):
    """A device-readable descriptor follows a device-writable one.

    Virtio 1.4, 2.7.4.2.
    """

    code = "E-RING-ORDER"


class TooManyChainsError(RingError):
    """More chains were made available than the queue has descriptors.

    The driver reused a descriptor that the device had not given back.
    """

    code = "E-RING-OUTSTANDING"


class EmptyChainError(RingError):
    """A chain has no buffer at all."""

    code = "E-RING-EMPTY"


class ChainTruncatedError(RingError):
    """A packed chain runs into a descriptor that is not available.

    Virtio 1.4, 2.8.6: the driver marks a chain's first descriptor available after all the others.
    """

    code = "E-RING-TRUNCATED"


class MemoryGoneError(RingError):
    """The memory under a ring or buffer vanished: the file behind it was truncated or failed.

    The lost page reads as zeros; the queue stopped before acting on them.
    """

    code = "E-RING-MEMORY"


class IotlbMissError(RingError):
    """An address is not (yet) translated by the IOMMU.

    Not the driver's mistake in itself: the translation has to be asked for.
    """

    code = "E-RING-IOTLB"


class ChainMemoryError(RingError):
    """This process ran out of memory for a descriptor chain."""

    code = "E-RING-NOMEM"


class UsedIndexError(DeviceError):
    """The device's used index ran ahead by more than the chains it was given."""

    code = "E-USED-INDEX"


class UsedIdError(DeviceError):
    """The device used a chain that it was not given, or out of order with IN_ORDER."""

    code = "E-USED-ID"


class UsedLengthError(DeviceError):
    """The device says it wrote more bytes than the chain's writable part holds."""

    code = "E-USED-LENGTH"


RING_FAULTS: dict[int, type[DriverError] | type[DeviceError]] = {
    -1: IndexJumpError,
    -2: DescriptorIndexError,
    -3: ChainLoopError,
    -4: IndirectUnexpectedError,
    -5: IndirectNestedError,
    -6: IndirectNextError,
    -7: IndirectSizeError,
    -8: BufferAddressError,
    -9: AddressWrapError,
    -10: LengthZeroError,
    -11: LengthOverflowError,
    -12: ChainOrderError,
    -13: TooManyChainsError,
    -14: EmptyChainError,
    -15: ChainTruncatedError,
    -16: MemoryGoneError,
    -17: IotlbMissError,
    -18: ChainMemoryError,
    -32: UsedIndexError,
    -33: UsedIdError,
    -34: UsedLengthError,
}
