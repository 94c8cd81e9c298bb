"""Everything that can go wrong, by whose fault it is.

::

    VirtioError                 any error of pyvirtio's own; exit status 1
     +-- UsageError             yours: a wrong flag, a wrong call (2)
     |    +-- FeatureError      a feature set that cannot be
     |    +-- StorageUrlError   a storage URL that makes no sense
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
     |    +-- DeviceGoneError   the device we drove went away
     |    +-- DeviceTimeoutError  the device we drive does not answer
     |    +-- RefusedError      the other side answered a request with a failure
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
          +-- StorageError      a disk image that cannot be used
               +-- StorageMissingError, StorageKindError, StoragePermissionError, StorageLockedError,
                   StorageSizeError, StorageDirectError, StorageFormatError

Each class has a stable ``code`` (``virtio explain CODE`` prints its docstring) and a ``fix``. The message
of an instance says what happened; ``str(error)`` is that message alone, ``error.report()`` adds the fix.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "RING_FAULTS",
    "AddressError",
    "AddressInUseError",
    "AddressWrapError",
    "ArenaExhaustedError",
    "BufferAddressError",
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
    "GuestError",
    "GuestTimeoutError",
    "HostError",
    "IndexJumpError",
    "IndirectNestedError",
    "IndirectNextError",
    "IndirectSizeError",
    "IndirectUnexpectedError",
    "IotlbMissError",
    "LengthOverflowError",
    "LengthZeroError",
    "MemoryGoneError",
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


class VirtioError(Exception):
    """Something failed for a reason that has no more exact name."""

    code: ClassVar[str] = "E-FAIL"
    exit_status: ClassVar[int] = 1
    fix: str = ""

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        if fix is not None:
            self.fix = fix

    def report(self) -> str:
        """The message, the code and the fix, as the command line prints them."""
        text = f"{self} [{self.code}]"
        return f"{text}\n  fix: {self.fix}" if self.fix else text


class UsageError(VirtioError):
    """A flag, an address or an argument does not make sense as given."""

    code = "E-USAGE"
    exit_status = 2


class FeatureError(UsageError):
    """A set of feature bits cannot be: a bit lacks another that it requires, or was never offered.

    Virtio 1.4, 2.2 and the "Feature bit requirements" section of each device type.
    """

    code = "E-FEATURE"


class StorageUrlError(UsageError):
    """A storage URL names an unknown scheme, an unknown option or a size that is not one.

    Storage is a path, ``file:PATH[?direct=on&read-only=on&lock=off]``, ``mem:SIZE`` or ``null:SIZE``; sizes
    are bytes or carry a suffix k, M, G or T (powers of 1024).
    """

    code = "E-STORAGE-URL"
    fix = "write a path, file:PATH, mem:SIZE or null:SIZE (sizes such as 512M or 1G)"


class RequestUseError(UsageError):
    """A device used a request in a way that cannot be: after its completion, or past its end.

    A request is the device's from the moment it is handed over until it is completed; afterwards its
    buffers are the driver's again. What is written must fit the buffers that the driver provided.
    """

    code = "E-REQUEST-USE"


class DeviceCodeError(VirtioError):
    """The code of a device that was to be served raised an exception; its own traceback says where."""

    code = "E-DEVICE-CODE"
    fix = "mend the file and serve it again"


class DrainError(VirtioError):
    """A queue had to stop, and the device did not finish the requests in flight in the time allowed.

    They were given up: the driver does not get them back. A handler that blocks, or storage that hangs,
    is the usual cause. ``Queue(drain=SECONDS)`` sets the time.
    """

    code = "E-DRAIN"
    fix = "find out what the device's handler or storage waits for, or allow more time: Queue(drain=SECONDS)"


class PeerError(VirtioError):
    """The program at the other end of the socket did something its protocol forbids."""

    code = "E-PEER"
    exit_status = 3


class ProtocolError(PeerError):
    """A message arrived that the vhost-user protocol does not allow there, or not in that form."""

    code = "E-PROTOCOL"


class NotSharedError(PeerError):
    """The front-end did not share the guest's memory, so no virtqueue can be reached.

    vhost-user works on the guest's own memory: the front-end must hand over file descriptors of it. A QEMU
    started without ``share=on`` keeps its memory private and fails only when the guest's driver starts.
    """

    code = "E-SHM"
    fix = (
        "start QEMU with -object memory-backend-memfd,id=mem,size=SIZE,share=on "
        "-machine memory-backend=mem (libvirt: <memoryBacking><source type='memfd'/>"
        "<access mode='shared'/></memoryBacking>)"
    )


class AddressError(PeerError):
    """An address or range is not in guest memory, or may not be written."""

    code = "E-ADDRESS"


class RegionError(PeerError):
    """A memory region cannot be: it overlaps another, passes the end of its file, or cannot be mapped."""

    code = "E-REGION"


class DriverError(PeerError):
    """The driver in the guest did something that the virtio specification forbids."""

    code = "E-DRIVER"


class ConfigError(DriverError):
    """The driver read or wrote the configuration space where, or in a way that, it may not.

    Virtio 1.4, 2.5: only fields described as writable by the driver may be written.
    """

    code = "E-CONFIG"


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


class DeviceError(PeerError):
    """The device we drive did something that the virtio specification forbids."""

    code = "E-DEVICE"


class DeviceGoneError(PeerError):
    """The device we drive went away: its program ended, or closed the connection.

    Every request that was under way fails with this error; what they did to the device is unknown.
    """

    code = "E-GONE"
    fix = "see the device program's own messages, start it again and connect again"


class DeviceTimeoutError(PeerError, TimeoutError):
    """The device did not finish a request in time. The request stays with the device.

    Its buffers are not used again before the device gives them back or is reset.
    """

    code = "E-TIMEOUT"
    fix = "pass a longer timeout, or find out what the device program is waiting for"


class RequestFailedError(VirtioError):
    """The device finished a request with an error status."""

    code = "E-REQUEST-FAILED"


class DeviceIOError(RequestFailedError, OSError):
    """The device tried to serve a request and failed: VIRTIO_BLK_S_IOERR and its like.

    Virtio says no more than that; the program that serves the device knows the reason: a bad medium, a full
    or read-only file, an address beyond the end.
    """

    code = "E-IO"
    fix = "see the messages of the program that serves the device"


class UnsupportedRequestError(RequestFailedError):
    """The device does not know this type of request (VIRTIO_BLK_S_UNSUPP), or never offered it."""

    code = "E-UNSUPPORTED"


class UsedIndexError(DeviceError):
    """The device's used index ran ahead by more than the chains it was given."""

    code = "E-USED-INDEX"


class UsedIdError(DeviceError):
    """The device used a chain that it was not given, or out of order with IN_ORDER."""

    code = "E-USED-ID"


class UsedLengthError(DeviceError):
    """The device says it wrote more bytes than the chain's writable part holds."""

    code = "E-USED-LENGTH"


class RefusedError(PeerError):
    """The program at the other end answered a vhost-user request with a failure."""

    code = "E-REFUSED"
    fix = "see the messages of the program at the other end: it knows the reason"


class GuestError(VirtioError):
    """A guest did not boot, or ended before it was told to; the end of its console says more.

    A missing kernel module, a kernel panic, a hypervisor that refused its command line or was killed.
    """

    code = "E-GUEST"
    fix = "read the console's last lines above; a back-end that does not answer shows there too"


class GuestTimeoutError(GuestError):
    """A guest did not come up, or a command in it did not end, within the time allowed; it was killed."""

    code = "E-GUEST-TIMEOUT"
    fix = "allow more time (--timeout, timeout=), or look at what the guest waits for"


class HostError(VirtioError):
    """This machine lacks something that is needed, or refuses it."""

    code = "E-HOST"
    exit_status = 4


class ArenaExhaustedError(HostError):
    """The memory a driver shares with its device is used up, and the device takes no more of it."""

    code = "E-ARENA"
    fix = "free buffers that are no longer used, or connect with a larger arena_size"


class AddressInUseError(HostError):
    """Another program is alive and serves that very socket, so it is not taken away from it."""

    code = "E-IN-USE"
    fix = "stop the other program or choose another path"


class StorageError(HostError):
    """A disk's storage cannot be opened or used: missing, locked, not writable, not a disk."""

    code = "E-STORAGE"


class StorageMissingError(StorageError):
    """The disk's file does not exist, nor is one made for you: its size would have to be guessed."""

    code = "E-STORAGE-MISSING"
    fix = "check the path, or make an empty disk with: truncate -s 1G PATH"


class StorageKindError(StorageError):
    """The path is neither a regular file nor a block device, so it has no sectors to serve."""

    code = "E-STORAGE-KIND"
    fix = "give a disk image or a block device"


class StoragePermissionError(StorageError):
    """The file may not be opened as asked: no permission, or it is on something read-only."""

    code = "E-STORAGE-PERMISSION"
    fix = "grant access to the file, or serve it read-only (--read-only)"


class StorageLockedError(StorageError):
    """Another program uses the disk in a way that excludes this use.

    A writer needs the disk for itself, readers share it. The lock is an open-file-description lock that QEMU,
    Cloud Hypervisor and pyvirtio respect; a mounted block device counts as locked too.
    """

    code = "E-STORAGE-LOCKED"
    fix = "stop the other user, open both read-only, or, knowing better, add ?lock=off to a file: URL"


class StorageSizeError(StorageError):
    """The disk is smaller than one sector, or cannot be given the size asked for."""

    code = "E-STORAGE-SIZE"
    fix = "give the disk a size that is a multiple of 512 bytes"


class StorageDirectError(StorageError):
    """The file system does not do direct I/O (O_DIRECT), which ``cache=none`` asks for."""

    code = "E-STORAGE-DIRECT"
    fix = "use cache=writeback, or keep the image on a file system with direct I/O (ext4, xfs, btrfs)"


class StorageFormatError(StorageError):
    """A disk image is of a format that is not raw, such as qcow2 or VMDK.

    Served as raw it would show the guest the format's own tables in place of the disk, and the first write
    could damage it for good.
    """

    code = "E-STORAGE-FORMAT"
    fix = "convert it: qemu-img convert -O raw IMAGE IMAGE.raw"


# Why a queue stopped (virtqueue.queue.RingFault), as exceptions.
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


def catalogue() -> dict[str, type[VirtioError]]:
    """Every error class by its code."""
    found: dict[str, type[VirtioError]] = {}
    waiting: list[type[VirtioError]] = [VirtioError]
    while waiting:
        cls = waiting.pop()
        found.setdefault(cls.code, cls)
        waiting.extend(cls.__subclasses__())
    return dict(sorted(found.items()))
