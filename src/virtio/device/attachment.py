"""One driver's use of one device, whatever the transport: features, configuration, memory, queues, status.

A transport makes one when a driver appears, translates its messages or register accesses into calls on it,
and closes it when the driver is gone. The calls come from the transport's control thread; the queues are
served by their own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from virtio.device import status as rules
from virtio.device.vring import Vring
from virtio.errors import FeatureError, VirtioError
from virtio.spec import features as feature_bits
from virtio.spec.status import DEVICE_NEEDS_RESET, DRIVER_OK

if TYPE_CHECKING:
    from virtio.device.device import Device
    from virtio.memory import GuestMemory

__all__ = ["Attachment"]

logger = logging.getLogger("virtio.device")

POLL_US = 50  # microseconds: about what a wake-up costs on a machine without spare processors


class Attachment:
    """One driver's use of one device.

    ``on_config_change()`` is called when the device changed its configuration, ``on_fault(index, error)``
    when a queue broke, ``on_iotlb_miss(index, address)`` when a queue waits for an address to be translated
    (``set_memory`` lets it go on), ``on_call(index)`` when a queue without a call fd has news. They come on
    the thread that found out, often a queue's worker, and must not wait for the control thread.

    ``poll_us`` bounds each worker's adaptive polling in microseconds, 0 turns it off. ``cpus`` are processor
    numbers to spread the workers over. ``transport_features`` are bits that the transport adds to the offer.

    Raises UsageError if the device is attached already and is not ``shareable``.
    """

    def __init__(
        self,
        device: Device,
        *,
        on_config_change: Callable[[], None] | None = None,
        on_fault: Callable[[int, VirtioError], None] | None = None,
        on_iotlb_miss: Callable[[int, int], None] | None = None,
        on_call: Callable[[int], None] | None = None,
        poll_us: int | None = None,
        cpus: Sequence[int] = (),
        transport_features: int = 0,
    ) -> None:
        self.device = device
        self.poll_us = POLL_US if poll_us is None else poll_us
        self.features = 0
        """The accepted feature bits."""
        self.memory: GuestMemory | None = None
        """The guest's memory, once there is some."""
        self.lock = threading.RLock()  # one control call at a time
        self._status = 0
        self._status_lock = threading.Lock()  # workers set DEVICE_NEEDS_RESET while control waits for them
        self._refused = False  # the features last written were not acceptable
        self._ready: int | None = None  # the features the device was last made ready with
        self._cpus = tuple(cpus)
        self._transport_features = transport_features
        self._on_config_change = on_config_change
        self._on_fault = on_fault
        self._on_iotlb_miss = on_iotlb_miss
        self._on_call = on_call
        self._closed = False
        device.attach(self)
        declared = [queue for queue in device.queues for _ in range(queue.count)]
        self.vrings: Sequence[Vring] = [Vring(self, index, queue) for index, queue in enumerate(declared)]
        """The device's queues in order, arrays laid out one by one."""

    # Features and status.

    @property
    def offered_features(self) -> int:
        """What the driver may choose from, as a bit mask."""
        return self.device.offered_features | self._transport_features

    def set_features(self, mask: int) -> None:
        """Accept what the driver chose.

        Raises FeatureError for a bit that was not offered, a bit whose requirement is missing, what the
        device's own ``check_features`` refuses, and for a change while queues are served.
        """
        with self.lock:
            if mask == self.features and not self._refused:
                return
            if any(vring.running for vring in self.vrings):
                raise FeatureError("the features cannot change while queues are served")
            self._refused = True
            kept = self.device.kept_features & self.offered_features
            feature_bits.check(self.device.device_id, mask | kept, offered=self.offered_features)
            self.device.check_features(mask)
            self._refused = False
            self.features = mask

    @property
    def status(self) -> int:
        """The device status register (virtio 1.4, 2.1). Writing 0 resets; bits once set stay until then."""
        return self._status

    @status.setter
    def status(self, written: int) -> None:
        with self.lock:
            if written == 0:
                self.reset()
                return
            legacy = not self.features >> feature_bits.VERSION_1 & 1
            for problem in rules.problems(self._status, written, legacy=legacy):
                logger.debug("driver wrote status %#x over %#x: %s", written, self._status, problem)
            with self._status_lock:
                old = self._status
                self._status = rules.after(old, written, features_acceptable=not self._refused)
            if self._status & DRIVER_OK and not old & DRIVER_OK:
                self.make_ready()

    def make_ready(self) -> None:
        """Tell the device, once for each negotiation, that a driver is about to use it."""
        if self._ready != self.features:
            self._ready = self.features
            self.device.on_ready(self.features)

    # Configuration.

    def read_config(self, offset: int, size: int) -> bytes:
        """Bytes of the configuration space, zero past its end. Raises ConfigError for a senseless range."""
        return self.device.config.read(offset, size)

    def write_config(self, offset: int, data: bytes, *, migration: bool = False) -> None:
        """Write configuration bytes as the driver, or as a hypervisor that restores the device.

        Raises ConfigError outside the fields that drivers may write.
        """
        changed = self.device.config.write(offset, data, migration=migration)
        self.device.on_config_write(changed)

    def config_changed(self) -> None:
        """Tell the driver that the device changed its configuration."""
        if self._on_config_change is not None:
            self._on_config_change()

    # Memory.

    def set_memory(self, memory: GuestMemory) -> None:
        """Use another view of the guest's memory; running queues pause, are moved and go on.

        A queue whose ring is no longer covered breaks, with its error.
        """
        with self.lock:
            for vring in self.vrings:
                vring.hold_soon()
            for vring in self.vrings:
                vring.wait_paused()
            self.memory = memory
            for vring in self.vrings:
                vring.memory_changed()

    # The end.

    def reset(self) -> None:
        """Stop all queues and forget features, addresses and status; the memory stays.

        Any initialisation may follow.
        """
        with self.lock:
            for vring in self.vrings:
                vring.stop_soon()
            for vring in self.vrings:
                vring.reset()
            self.features = 0
            self._refused = False
            with self._status_lock:
                self._status = 0
            if self._ready is not None:
                self._ready = None
                self.device.on_reset()

    def close(self) -> None:
        """The driver is gone: stop and drop everything. Closing again does nothing."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            try:
                self.reset()
            finally:
                self.memory = None
                self.device.detach(self)

    # What the queues call.

    @property
    def calls_in_band(self) -> bool:
        """Whether a queue without a call fd has another way to notify the driver."""
        return self._on_call is not None

    def cpus_of(self, index: int) -> set[int] | None:
        """The processors that a queue's worker runs on; None for any."""
        return {self._cpus[index % len(self._cpus)]} if self._cpus else None

    def fault(self, index: int, error: VirtioError) -> None:
        """A queue broke: set DEVICE_NEEDS_RESET and tell the driver (virtio 1.4, 2.1.2) and the transport."""
        with self._status_lock:
            live = self._status & DRIVER_OK
            if self._status:  # a transport without a status register has nothing to set it in
                self._status |= DEVICE_NEEDS_RESET
        if live:
            self.config_changed()
        if self._on_fault is None:
            logger.warning("queue %s: %s", self.vrings[index].name, error)
        else:
            self._on_fault(index, error)

    def miss(self, index: int, address: int) -> None:
        """A queue waits for the translation of an address."""
        if self._on_iotlb_miss is None:
            logger.warning("queue %s: address %#x is not translated", self.vrings[index].name, address)
        else:
            self._on_iotlb_miss(index, address)

    def call(self, index: int) -> None:
        """A queue has news for the driver, and no call fd."""
        if self._on_call is not None:
            self._on_call(index)
