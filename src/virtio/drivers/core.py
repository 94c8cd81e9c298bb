"""The driver core: brings a device up in the order the specification prescribes, watches it, lets it go."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass

from virtio.closing import Closing
from virtio.drivers.channel import Channel
from virtio.drivers.memory import Arena, Buffer
from virtio.drivers.queue import RequestQueue, again
from virtio.drivers.rings import lay_out
from virtio.drivers.transport import Event, EventKind, Transport, read_config_stably
from virtio.errors import DeviceError, DeviceGoneError, FeatureError, UsageError, VirtioError
from virtio.spec import features as bits
from virtio.spec import status as status_bits

__all__ = ["Driver", "DriverOptions"]

RING_FEATURES = bits.mask(bits.INDIRECT_DESC, bits.EVENT_IDX, bits.RING_PACKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """How to bring a device up.

    ``packed``: True asks for packed rings, False for split ones, None takes what the device prefers to have.
    ``without`` is a mask of features never to accept. ``poll_us``: the longest spin before sleeping.
    ``timeout``: seconds a blocking call waits for the device; None waits for ever.
    """

    num_queues: int = 1
    queue_size: int = 128
    packed: bool | None = None
    without: int = 0
    arena_size: int = 64 << 20
    hugepages: bool = False
    poll_us: float = 50
    timeout: float | None = 30.0


class Driver(Closing):
    """One device being driven. Subclasses say which, and put requests on ``queues``.

    Usable as a context manager; `close` resets the device and lets go of it. `restart` brings it up anew.
    """

    device_id: int
    wanted: int = 0
    """Device-type features accepted if offered."""
    required: int = 0
    """Features without which the driver gives up."""
    essential: int = bits.mask(bits.VERSION_1)
    """What every modern driver needs; none for one that speaks the legacy interface."""

    def __init__(self, transport: Transport, options: DriverOptions | None = None) -> None:
        self.transport = transport
        self.options = options or DriverOptions()
        self.features = 0
        self.queues: list[RequestQueue] = []
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._rings: list[Buffer] = []
        self._failure: VirtioError | None = None
        self._closed = False
        self._close_lock = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._config_lock = threading.Lock()
        self._round_robin = 0
        self._chosen = threading.local()
        try:
            self.arena = Arena(self.options.arena_size, hugepages=self.options.hugepages)
            self._bring_up()
            self._watch()
        except BaseException:
            self._let_go()
            raise

    # Bringing up: virtio 1.4, 3.1.1, step by step.

    def _bring_up(self) -> None:
        if self.transport.device_id not in (None, self.device_id):
            raise DeviceError(f"the device is of type {self.transport.device_id}, not {self.device_id}")
        try:
            self.transport.reset()
            self._add_status(status_bits.ACKNOWLEDGE)
            self._add_status(status_bits.DRIVER)
            self.features = self.negotiate(self.transport.device_features())
            self.transport.set_driver_features(self.features)
            self._add_status(status_bits.FEATURES_OK)
            if not self.transport.status() & status_bits.FEATURES_OK:
                raise FeatureError(f"the device refuses the features {self._names(self.features)}")
            self._share_memory()
            self.set_up_queues(self.queue_count())
            self.read_configuration()
            self._add_status(status_bits.DRIVER_OK)
        except VirtioError:
            self._give_up()
            raise

    def negotiate(self, offered: int) -> int:
        """The features to accept of those offered; FeatureError if the device cannot be driven so."""
        options = self.options
        needed = self.required | self.essential
        if options.packed:
            needed |= bits.mask(bits.RING_PACKED)
        missing = needed & ~offered
        if missing:
            raise FeatureError(f"the device does not offer {self._names(missing)}")
        accepted = offered & (needed | self.wanted | RING_FEATURES) & ~options.without
        if options.packed is False:
            accepted &= ~bits.mask(bits.RING_PACKED)
        if needed & ~accepted:
            raise FeatureError(f"{self._names(needed & ~accepted)} cannot be done without")
        self.check_features(accepted, offered)
        return accepted

    def check_features(self, accepted: int, offered: int) -> None:
        """FeatureError unless each feature has what it needs."""
        bits.check(self.device_id, accepted, offered=offered)

    def has(self, feature: int) -> bool:
        """Whether a feature bit was negotiated."""
        return bool(self.features >> feature & 1)

    def queue_count(self) -> int:
        """How many queues to set up, once features are negotiated. Subclasses with several override it."""
        return 1

    def read_configuration(self) -> None:
        """Read what the driver needs of the configuration space. Called at start and after each change."""

    def set_up_queues(self, count: int) -> None:
        """Hand ``count`` queues to the device."""
        limit = self.transport.queue_limit()
        if limit is not None and count > limit:
            raise UsageError(f"{count} queues wanted, the device has {limit}")
        self.queues = [self._set_up_queue(index) for index in range(count)]

    def _set_up_queue(self, index: int, size: int | None = None) -> RequestQueue:
        largest = self.transport.queue_max_size(index)
        if not largest:
            raise DeviceError(f"the device has no queue {index}")
        layout = lay_out(self.arena, min(size or self.options.queue_size, largest), self.features)
        self._rings.append(layout.buffer)
        fds = self.transport.setup_queue(index, layout.addresses, packed=self.has(bits.RING_PACKED))
        channel = Channel(layout.ring, fds.kick, fds.call, self._wake_fd, poll_us=self.options.poll_us)
        return RequestQueue(index, channel)

    def _share_memory(self) -> None:
        for region in self.arena.regions:
            if not self.transport.share(region):
                raise DeviceError("the device takes none of the driver's memory")
        self.arena.set_share(self.transport.share if self.transport.can_share_later() else None)

    def _add_status(self, bit: int) -> None:
        self.transport.set_status(self.transport.status() | bit)

    def _give_up(self) -> None:
        with suppress(VirtioError, OSError):  # already failing, and the device may be the reason
            self._add_status(status_bits.FAILED)

    def _names(self, mask: int) -> str:
        return ", ".join(bits.name(self.device_id, bit) for bit in bits.bits(mask)) or "none"

    # In use.

    def queue(self) -> RequestQueue:
        """The calling thread's queue: threads are spread over the queues in the order they come."""
        if not self.queues:
            raise again(self._failure or DeviceError("the device is being brought up"))
        index: int | None = getattr(self._chosen, "index", None)
        if index is None or index >= len(self.queues):
            index = self._round_robin % len(self.queues)
            self._round_robin += 1
            self._chosen.index = index
        return self.queues[index]

    def read_config(self, offset: int, size: int) -> bytes:
        """Device configuration, consistent within itself."""
        with self._config_lock:
            return read_config_stably(self.transport, offset, size)

    def write_config(self, offset: int, data: bytes) -> None:
        """Write device configuration."""
        with self._config_lock:
            self.transport.write_config(offset, data)

    # Watching: what the device says by itself.

    def _watch(self) -> None:
        self._watcher = threading.Thread(target=self._run_watcher, name="virtio-driver-watch", daemon=True)
        self._watcher.start()

    def _run_watcher(self) -> None:
        try:
            for event in self.transport.events():
                self._handle(event)
        except OSError as error:  # nobody would notice the device's end any more
            self.fail(DeviceGoneError(f"the device cannot be watched any more: {error.strerror}"))

    def _handle(self, event: Event) -> None:
        try:
            if event.kind is EventKind.GONE:
                self.fail(DeviceGoneError(f"the device is gone{event.detail and ': ' + event.detail}"))
            elif event.kind is EventKind.QUEUE_FAILED:
                self.fail(DeviceError(f"the device reports an error on {event.detail}"))
            elif self.transport.status() & status_bits.DEVICE_NEEDS_RESET:
                self.fail(DeviceError("the device needs a reset"))
            else:
                self.config_changed()
        except VirtioError as error:
            self.fail(error)

    def config_changed(self) -> None:
        """The configuration space changed; runs in the watching thread."""
        self.read_configuration()

    def fail(self, error: VirtioError) -> None:
        """Stop using the device: whatever waits for it gets ``error``."""
        if self._failure is None:
            self._failure = error
        for queue in self.queues:
            queue.fail(error)
        os.eventfd_write(self._wake_fd, 1)

    # Letting go.

    def restart(self) -> None:
        """Reset the device and bring it up again. Requests under way fail with DeviceError."""
        if self._closed or isinstance(self._failure, DeviceGoneError):
            raise UsageError("a device that is closed or gone cannot be restarted; connect again")
        self.fail(DeviceError("the device was reset"))
        for queue in self.queues:
            queue.retire()
        self.transport.reset()
        self.free_queues()
        self._failure = None
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        self._bring_up()

    def close(self) -> None:
        """Reset the device and let go of it. Requests under way fail.

        Closing twice is harmless, also by two threads: the one that was second does not wait for the first.
        """
        with self._close_lock:  # whoever `fail` wakes may close it too
            second, self._closed = self._closed, True
        if second:
            return
        self.fail(DeviceGoneError("the device was closed here"))
        self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        for queue in self.queues:
            queue.retire()
        with suppress(VirtioError, OSError):  # a device that is gone needs no reset
            self.transport.reset()
        self.transport.close()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join()
        self.free_queues()
        if hasattr(self, "arena"):
            self.arena.close()
        os.close(self._wake_fd)

    def free_queues(self) -> None:
        """Give back the queues' memory; the device has been reset."""
        self.queues = []
        for buffer in self._rings:
            buffer.free()
        self._rings = []
