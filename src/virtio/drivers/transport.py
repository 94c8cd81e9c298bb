"""What a driver asks of a transport. vhost-user is one; others only have to offer the same.

A transport speaks for one device. All of its methods may be called from any thread but `events`, which
belongs to the one thread that watches the device.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from virtio.drivers.memory import SharedRegion
from virtio.errors import DeviceError

__all__ = ["Event", "EventKind", "QueueAddresses", "QueueFds", "Transport", "read_config_stably"]


@dataclass(frozen=True, slots=True)
class QueueAddresses:
    """Where a virtqueue lies, as device addresses (virtio 1.4, 2.6)."""

    size: int
    descriptors: int
    driver_area: int
    device_area: int


@dataclass(frozen=True, slots=True)
class QueueFds:
    """A live queue's two bells: write 8 bytes to ``kick`` to ring the device, it makes ``call`` readable.

    Both are eventfds that the transport owns and closes.
    """

    kick: int
    call: int


class EventKind(enum.Enum):
    """What `Transport.events` reports."""

    CONFIG_CHANGED = "the configuration space changed"
    QUEUE_FAILED = "the device stopped a queue"
    GONE = "the device is gone"


@dataclass(frozen=True, slots=True)
class Event:
    """Something the device said by itself."""

    kind: EventKind
    detail: str = ""


class Transport(Protocol):
    """One device, however it is attached."""

    device_id: int | None
    """The device's type where the transport knows it; vhost-user does not."""

    def device_features(self) -> int:
        """The feature bits the device offers."""

    def set_driver_features(self, mask: int) -> None:
        """Tell the device what the driver accepts. FeatureError or DeviceError if it refuses already."""

    def status(self) -> int:
        """The device status register (virtio 1.4, 2.1)."""

    def set_status(self, status: int) -> None:
        """Write the device status register; never 0, which is `reset`."""

    def config_generation(self) -> int | None:
        """The configuration's generation, or None where reads are atomic by themselves."""

    def read_config(self, offset: int, size: int) -> bytes:
        """Read the device's configuration space. May be shorter where the space ends."""

    def write_config(self, offset: int, data: bytes) -> None:
        """Write to the device's configuration space."""

    def queue_limit(self) -> int | None:
        """How many queues the device has, or None if the transport cannot tell."""

    def queue_max_size(self, index: int) -> int:
        """The largest size queue ``index`` may have; 0 if there is no such queue."""

    def share(self, region: SharedRegion) -> bool:
        """Make memory reachable for the device. False if it takes no more of it."""

    def can_share_later(self) -> bool:
        """Whether `share` works while queues are live."""

    def setup_queue(self, index: int, addresses: QueueAddresses, *, packed: bool) -> QueueFds:
        """Hand over a queue and enable it. The device may not touch it before DRIVER_OK."""

    def enable_queue(self, index: int, *, enabled: bool) -> None:
        """Have the device use a queue that was set up, or leave it alone for now."""

    def events(self) -> Iterator[Event]:
        """Block for what the device says; ends after GONE or `close`."""

    def reset(self) -> None:
        """Reset the device: once this returns it uses no queue and no memory. What was shared may stay so."""

    def close(self) -> None:
        """Let go of the device. Ends `events`. Closing twice is harmless."""


def read_config_stably(transport: Transport, offset: int, size: int) -> bytes:
    """Read configuration that did not change underway (virtio 1.4, 2.5.1): retried until it holds still."""
    for _ in range(100):
        before = transport.config_generation()
        data = transport.read_config(offset, size)
        if before is None or before == transport.config_generation():
            return data
    raise DeviceError("the device's configuration changes faster than it can be read")
