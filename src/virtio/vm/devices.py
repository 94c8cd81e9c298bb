"""What can be attached to a guest, and how QEMU and User-Mode Linux are told so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from virtio.errors import UsageError

__all__ = ["Attached", "Blk", "Drive", "Generation", "Net", "Rng", "VhostUser", "quote"]

Generation = Literal["transitional", "modern", "legacy"]
GENERATION_OPTIONS: dict[Generation, dict[str, str]] = {
    "transitional": {},
    "modern": {"disable-legacy": "on"},
    "legacy": {"disable-modern": "on"},
}


class Attached(Protocol):
    """A device of a guest."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Kernel modules of its driver."""

    def qemu(self, index: int, reconnect_option: str) -> list[str]:
        """QEMU's arguments for it, as the guest's device number ``index``."""

    def uml(self, socket: str) -> str:
        """User-Mode Linux's argument for it; ``socket`` is a path without blanks and colons."""


@dataclass(frozen=True)
class VhostUser:
    """A device behind the vhost-user socket at path ``socket``; use one of its subclasses.

    ``generation`` is the PCI interface shown to the guest: both, or only virtio 1 ("modern"), or only
    virtio 0.9.5 ("legacy"). ``reconnect`` is the pause in seconds after which QEMU calls a back-end that
    has gone again. ``options`` are further properties of QEMU's device. UML has neither of these.
    """

    socket: str
    packed: bool = False
    generation: Generation = "transitional"
    reconnect: float | None = None
    options: Mapping[str, str | int] = field(default_factory=dict)

    driver: ClassVar[str]
    device_id: ClassVar[int]
    modules: ClassVar[tuple[str, ...]]
    in_uml: ClassVar[bool] = True

    def properties(self) -> dict[str, str | int]:
        """QEMU's properties of this device."""
        found: dict[str, str | int] = dict(GENERATION_OPTIONS[self.generation])
        if self.packed:
            found["packed"] = "on"
        return found | dict(self.options)

    def qemu(self, index: int, reconnect_option: str) -> list[str]:
        """A chardev with the socket, and the PCI device on it."""
        name = f"vhost{index}"
        return [*self._chardev(name, reconnect_option), *self._device(f"chardev={name}")]

    def uml(self, socket: str) -> str:
        """``virtio_uml.device=SOCKET:ID``; UsageError for what only QEMU can do."""
        if not self.in_uml:
            raise UsageError(f"User-Mode Linux has no driver for {self.driver}", fix="use QEMU (--qemu)")
        if self.properties() or self.reconnect is not None:
            raise UsageError("User-Mode Linux takes no options for a device", fix="use QEMU (--qemu)")
        return f"virtio_uml.device={socket}:{self.device_id}"

    def _chardev(self, name: str, reconnect_option: str) -> list[str]:
        chardev = f"socket,id={name},path={quote(self.socket)}"
        if self.reconnect is not None:
            unit = 1000 if reconnect_option.endswith("-ms") else 1
            chardev += f",{reconnect_option}={max(1, round(self.reconnect * unit))}"
        return ["-chardev", chardev]

    def _device(self, backend: str) -> list[str]:
        properties = (f"{key}={value}" for key, value in self.properties().items())
        return ["-device", ",".join([self.driver, backend, *properties])]


@dataclass(frozen=True)
class Blk(VhostUser):
    """A disk, virtio 1.4 section 5.2. ``boot`` makes the firmware boot from it."""

    num_queues: int | None = None
    queue_size: int | None = None
    boot: bool = False

    driver = "vhost-user-blk-pci"
    device_id = 2
    modules = ("virtio_blk",)

    def properties(self) -> dict[str, str | int]:
        """The common ones, with the number and size of the queues."""
        boot = 1 if self.boot else None
        own = {"num-queues": self.num_queues, "queue-size": self.queue_size, "bootindex": boot}
        return {key: value for key, value in own.items() if value is not None} | super().properties()


@dataclass(frozen=True)
class Net(VhostUser):
    """A NIC, virtio 1.4 section 5.1, with ``num_queues`` pairs of queues.

    ``mac`` is for QEMU, which does not show the guest the back-end's address; with User-Mode Linux the
    back-end's holds.
    """

    num_queues: int | None = None
    mac: str | None = None

    driver = "virtio-net-pci"
    device_id = 1
    modules = ("virtio_net",)

    def properties(self) -> dict[str, str | int]:
        """The common ones, with the switch for several queues."""
        own: dict[str, str | int] = {"mq": "on"} if (self.num_queues or 1) > 1 else {}
        return own | super().properties()

    def qemu(self, index: int, reconnect_option: str) -> list[str]:
        """A chardev with the socket, QEMU's network back-end on it, and the PCI device."""
        chardev, netdev = f"vhost{index}", f"net{index}"
        queues = f",queues={self.num_queues}" if self.num_queues is not None else ""
        address = f",mac={self.mac}" if self.mac is not None else ""
        return [
            *self._chardev(chardev, reconnect_option),
            *("-netdev", f"vhost-user,id={netdev},chardev={chardev}{queues}"),
            *self._device(f"netdev={netdev}{address}"),
        ]


@dataclass(frozen=True)
class Rng(VhostUser):
    """An entropy device, virtio 1.4 section 5.4."""

    driver = "vhost-user-rng-pci"
    device_id = 4
    modules = ("virtio_rng",)
    in_uml = False


@dataclass(frozen=True)
class Drive:
    """A disk that QEMU itself serves from the raw image ``path``, to compare with."""

    path: str
    driver: str = "virtio-blk-pci"
    readonly: bool = False
    options: Mapping[str, str | int] = field(default_factory=dict)
    in_uml: ClassVar[bool] = False

    @property
    def modules(self) -> tuple[str, ...]:
        """The driver of the card: virtio-blk, or AHCI's disks."""
        return ("virtio_blk",) if self.driver.startswith("virtio-blk") else ("ahci", "sd_mod")

    def qemu(self, index: int, reconnect_option: str) -> list[str]:
        """A drive without a place, and the card on it."""
        name = f"drive{index}"
        drive = f"if=none,id={name},format=raw,file={quote(self.path)}"
        device = ",".join([self.driver, f"drive={name}", *(f"{k}={v}" for k, v in self.options.items())])
        return ["-drive", drive + (",readonly=on" if self.readonly else ""), "-device", device]

    def uml(self, socket: str) -> str:
        """Not to be had."""
        raise UsageError("a Drive is a device of QEMU's own", fix="use QEMU (--qemu)")


def quote(value: str) -> str:
    """QEMU's option syntax doubles a comma that belongs to the value."""
    return value.replace(",", ",,")
