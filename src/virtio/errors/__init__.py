"""Everything that can go wrong, by whose fault it is.

::

    VirtioError                 any error of pyvirtio's own; exit status 1
     +-- UsageError             yours: a wrong flag, a wrong call (2)
     |    +-- FeatureError      a feature set that cannot be
     |    +-- StorageUrlError   a storage URL that makes no sense
     |    +-- NetworkUrlError   a link's URL that makes no sense
     |    +-- RequestUseError   a request used after its completion, or overfilled
     +-- PeerError              the other program broke the protocol (3)
     |    +-- ProtocolError     a vhost-user message that is not one
     |    +-- NotSharedError    a front-end whose memory we cannot reach
     |    +-- AddressError      an address that is not guest memory
     |    +-- RegionError       a memory region that cannot be
     |    +-- DriverError       the driver (the guest) broke the specification
     |    |    +-- ConfigError  an access to the configuration space that it does not allow
     |    |    +-- RingError    a virtqueue that is malformed; one class per way (RING_FAULTS)
     |    +-- DeviceError       the device (a back-end we drive) broke the specification
     |    |    +-- UsedIndexError, UsedIdError, UsedLengthError
     |    |    +-- FrameHeaderError, FrameBuffersError
     |    +-- DeviceGoneError   the device we drove went away
     |    +-- DeviceTimeoutError  the device we drive does not answer
     |    +-- RefusedError      the other side answered a request with a failure
     |    +-- NetworkFramingError  a stream of frames with a length that none has
     +-- RequestFailedError     the device answered: no
     |    +-- DeviceIOError     it tried and failed
     |    +-- UnsupportedRequestError  it does not do that
     +-- DeviceCodeError        a device's own code raised an exception; exit status 1
     +-- DrainError             a queue stopped with requests still in flight
     +-- GuestError             a guest that was started did not boot, or died (1)
     |    +-- GuestTimeoutError a guest, or a command in it, took too long
     +-- HostError              the environment lacks something (4)
          +-- AddressInUseError another program serves that socket
          +-- ArenaExhaustedError  no shared memory left for requests
          +-- IoUringError      io_uring that was insisted on and cannot be had
          +-- NetworkError      a NIC's link that cannot be used
          |    +-- NetworkMissingError, NetworkPermissionError, NetworkBusyError, NetworkDownError,
          |        NetworkKindError, NetworkExtraError, CaptureFileError
          +-- StorageError      a disk image that cannot be used
               +-- StorageMissingError, StorageKindError, StoragePermissionError, StorageLockedError,
                   StorageSizeError, StorageDirectError, StorageFormatError

Each class has a stable ``code`` (``virtio explain CODE`` prints its docstring) and a ``fix``. The message
of an instance says what happened; ``str(error)`` is that message alone, ``error.report()`` adds the fix.
"""

from __future__ import annotations

from virtio.errors.base import (
    AddressError,
    AddressInUseError,
    ArenaExhaustedError,
    ConfigError,
    DeviceCodeError,
    DeviceError,
    DeviceGoneError,
    DeviceIOError,
    DeviceTimeoutError,
    DrainError,
    DriverError,
    FeatureError,
    GuestError,
    GuestTimeoutError,
    HostError,
    IoUringError,
    NotSharedError,
    PeerError,
    ProtocolError,
    RefusedError,
    RegionError,
    RequestFailedError,
    RequestUseError,
    UnsupportedRequestError,
    UsageError,
    VirtioError,
)
from virtio.errors.network import (
    CaptureFileError,
    FrameBuffersError,
    FrameHeaderError,
    NetworkBusyError,
    NetworkDownError,
    NetworkError,
    NetworkExtraError,
    NetworkFramingError,
    NetworkKindError,
    NetworkMissingError,
    NetworkPermissionError,
    NetworkUrlError,
)
from virtio.errors.ring import (
    RING_FAULTS,
    AddressWrapError,
    BufferAddressError,
    ChainLoopError,
    ChainMemoryError,
    ChainOrderError,
    ChainTruncatedError,
    DescriptorIndexError,
    EmptyChainError,
    IndexJumpError,
    IndirectNestedError,
    IndirectNextError,
    IndirectSizeError,
    IndirectUnexpectedError,
    IotlbMissError,
    LengthOverflowError,
    LengthZeroError,
    MemoryGoneError,
    RingAreaError,
    RingError,
    TooManyChainsError,
    UsedIdError,
    UsedIndexError,
    UsedLengthError,
)
from virtio.errors.storage import (
    StorageDirectError,
    StorageError,
    StorageFormatError,
    StorageKindError,
    StorageLockedError,
    StorageMissingError,
    StoragePermissionError,
    StorageSizeError,
    StorageUrlError,
)

__all__ = [
    "RING_FAULTS",
    "AddressError",
    "AddressInUseError",
    "AddressWrapError",
    "ArenaExhaustedError",
    "BufferAddressError",
    "CaptureFileError",
    "ChainLoopError",
    "ChainMemoryError",
    "ChainOrderError",
    "ChainTruncatedError",
    "ConfigError",
    "DescriptorIndexError",
    "DeviceCodeError",
    "DeviceError",
    "DeviceGoneError",
    "DeviceIOError",
    "DeviceTimeoutError",
    "DrainError",
    "DriverError",
    "EmptyChainError",
    "FeatureError",
    "FrameBuffersError",
    "FrameHeaderError",
    "GuestError",
    "GuestTimeoutError",
    "HostError",
    "IndexJumpError",
    "IndirectNestedError",
    "IndirectNextError",
    "IndirectSizeError",
    "IndirectUnexpectedError",
    "IoUringError",
    "IotlbMissError",
    "LengthOverflowError",
    "LengthZeroError",
    "MemoryGoneError",
    "NetworkBusyError",
    "NetworkDownError",
    "NetworkError",
    "NetworkExtraError",
    "NetworkFramingError",
    "NetworkKindError",
    "NetworkMissingError",
    "NetworkPermissionError",
    "NetworkUrlError",
    "NotSharedError",
    "PeerError",
    "ProtocolError",
    "RefusedError",
    "RegionError",
    "RequestFailedError",
    "RequestUseError",
    "RingAreaError",
    "RingError",
    "StorageDirectError",
    "StorageError",
    "StorageFormatError",
    "StorageKindError",
    "StorageLockedError",
    "StorageMissingError",
    "StoragePermissionError",
    "StorageSizeError",
    "StorageUrlError",
    "TooManyChainsError",
    "UnsupportedRequestError",
    "UsageError",
    "UsedIdError",
    "UsedIndexError",
    "UsedLengthError",
    "VirtioError",
    "catalogue",
]


def catalogue() -> dict[str, type[VirtioError]]:
    """Every error class by its code."""
    found: dict[str, type[VirtioError]] = {}
    waiting: list[type[VirtioError]] = [VirtioError]
    while waiting:
        cls = waiting.pop()
        found.setdefault(cls.code, cls)
        waiting.extend(cls.__subclasses__())
    return dict(sorted(found.items()))
