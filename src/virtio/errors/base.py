"""The root of the tree, and the errors that belong to no part of their own."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AddressError",
    "AddressInUseError",
    "ArenaExhaustedError",
    "ConfigError",
    "DeviceCodeError",
    "DeviceError",
    "DeviceGoneError",
    "DeviceIOError",
    "DeviceTimeoutError",
    "DrainError",
    "DriverError",
    "FeatureError",
    "GuestError",
    "GuestTimeoutError",
    "HostError",
    "IoUringError",
    "NotSharedError",
    "PeerError",
    "ProtocolError",
    "RefusedError",
    "RegionError",
    "RequestFailedError",
    "RequestUseError",
    "UnsupportedRequestError",
    "UsageError",
    "VirtioError",
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


class IoUringError(HostError):
    """io_uring was insisted on, and cannot be used: this build has none, or the kernel refuses or lacks it.

    It does what would make a queue of a disk wait. Threads do the same where it cannot be had.
    """

    code = "E-IO-URING"
    fix = "leave the choice to pyvirtio (aio=auto), which then uses threads; `virtio doctor` says more"


class AddressInUseError(HostError):
    """Another program is alive and serves that very socket, so it is not taken away from it."""

    code = "E-IN-USE"
    fix = "stop the other program or choose another path"
