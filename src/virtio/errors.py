"""Everything that can go wrong, by whose fault it is.

::

    VirtioError                 any error of pyvirtio's own; exit status 1
     +-- UsageError             yours: a wrong flag, a wrong call (2)
     |    +-- FeatureError      a feature set that cannot be
     +-- PeerError              the other program broke the protocol (3)
     |    +-- ProtocolError     a vhost-user message that is not one
     |    +-- NotSharedError    a front-end whose memory we cannot reach
     |    +-- DriverError       the driver (the guest) broke the specification
     |    |    +-- RingError    a virtqueue that is malformed; one class per way
     |    +-- DeviceError       the device (a back-end we drive) broke the specification
     +-- GuestError             a guest that was started did not boot, or died (1)
     |    +-- GuestTimeoutError a guest, or a command in it, took too long
     +-- HostError              the environment lacks something (4)
          +-- StorageError      a disk image missing, locked, read-only ...

Each class has a stable ``code`` (``virtio explain CODE`` prints its docstring) and a ``fix``. The message
of an instance says what happened; ``str(error)`` is that message alone, ``error.report()`` adds the fix.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "DeviceError",
    "DriverError",
    "FeatureError",
    "GuestError",
    "GuestTimeoutError",
    "HostError",
    "NotSharedError",
    "PeerError",
    "ProtocolError",
    "RingError",
    "StorageError",
    "UsageError",
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


class DriverError(PeerError):
    """The driver in the guest did something that the virtio specification forbids."""

    code = "E-DRIVER"


class RingError(DriverError):
    """The driver's virtqueue is malformed; that queue has been stopped, the device lives on."""

    code = "E-RING"
    fix = "reset the device from the guest; if it recurs, the guest's driver has a bug"


class DeviceError(PeerError):
    """The device we drive did something that the virtio specification forbids."""

    code = "E-DEVICE"


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


class StorageError(HostError):
    """A disk's storage cannot be opened or used: missing, locked, not writable, not a disk."""

    code = "E-STORAGE"


def catalogue() -> dict[str, type[VirtioError]]:
    """Every error class by its code."""
    found: dict[str, type[VirtioError]] = {}
    waiting: list[type[VirtioError]] = [VirtioError]
    while waiting:
        cls = waiting.pop()
        found.setdefault(cls.code, cls)
        waiting.extend(cls.__subclasses__())
    return dict(sorted(found.items()))
