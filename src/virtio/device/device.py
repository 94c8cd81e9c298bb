"""The class that every device derives from.

::

    class Upper(virtio.Device):
        \"""Answers every request with its text in capitals.\"""

        device_id = 42
        queues = (virtio.Queue("requests", size=256),)

        def requests(self, request: virtio.Request) -> None:
            request.write(bytes(request.readable).upper())

A device is written once and knows nothing of transports. Its life, from its own point of view::

    made --attach--> [ negotiation --on_ready(features)--> requests ... --on_reset--> ]* --detach--> made

Any number of drivers may come and go, and each may reset and initialise it any number of times.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from virtio.closing import Closing
from virtio.device.config import ConfigSpace
from virtio.device.failures import FailureLog
from virtio.device.queue import Queue
from virtio.errors import UsageError
from virtio.spec import features as feature_bits

if TYPE_CHECKING:
    from virtio.device.attachment import Attachment
    from virtio.device.loop import LoopThread
    from virtio.device.request import Request
    from virtio.device.worker import QueueWorker
    from virtio.virtqueue.queue import DeviceQueue

__all__ = ["RING_FEATURES", "Device"]

RING_FEATURES = feature_bits.mask(
    feature_bits.VERSION_1,
    feature_bits.RING_PACKED,
    feature_bits.EVENT_IDX,
    feature_bits.INDIRECT_DESC,
    feature_bits.IN_ORDER,
)
"""What every queue can do, as a bit mask."""


class Device(Closing):
    """A virtio device: identity, queues, features, configuration, and a method for each queue's requests.

    The method named after a queue is called with each Request: a plain function in the queue's own thread,
    one request at a time; a coroutine function on the device's asyncio loop, many at once. Queues are
    served at the same time, so what their methods share must be fit for that.
    """

    device_id: ClassVar[int] = 0
    """The device type (virtio 1.4, 5)."""
    queues: Iterable[Queue] = ()
    """The virtqueues in the specification's order."""
    features: int = 0
    """The device type's feature bits it offers, as a bit mask."""
    ring_features: int = RING_FEATURES
    """The reserved feature bits it offers, as a bit mask."""
    kept_features: ClassVar[int] = 0
    """Feature bits (a mask) that a front-end may keep to itself, and serve the driver with on its own: what
    rests on them may be accepted without them."""
    config: ConfigSpace = ConfigSpace()
    """The configuration space. One given in the class is copied for each device."""
    shareable: ClassVar[bool] = False
    """Whether several drivers may use it at once. Its methods are then called for all of them."""

    _attachments: tuple[Attachment, ...]

    def __new__(cls, *args: Any, **kwargs: Any) -> Device:
        """Set up what must be there even if a subclass does not call ``super().__init__``."""
        device = super().__new__(cls)
        device._attachments = ()
        device._lock = threading.Lock()
        device._failures = FailureLog()
        device._loop = None
        device.config = cls.config.copy()
        return device

    _lock: threading.Lock
    _failures: FailureLog
    _loop: LoopThread | None

    # What a subclass may override.

    def check_features(self, features: int) -> None:
        """Raise FeatureError if the device cannot work with the features a driver accepted."""

    def on_ready(self, features: int) -> None:
        """A driver accepted ``features`` (a bit mask) and is about to use the device."""

    def on_reset(self) -> None:
        """The driver reset the device, or is gone; no request is in flight."""

    def on_queue(self, index: int, enabled: bool) -> None:
        """The transport enabled queue number ``index``, or disabled it; it may have no addresses yet."""

    def on_config_write(self, changed: tuple[str, ...]) -> None:
        """A driver wrote to the configuration; ``changed`` names the fields that are now different.

        ``self.config.assign`` answers without a notification.
        """

    def failed(self, request: Request, error: BaseException) -> None:
        """The method for ``request`` raised ``error``, which is logged already.

        Completes it with nothing written. A device type whose requests carry a status writes that instead.
        """
        if not request.completed:
            request.complete(0)

    def make_worker(self, index: int, queue: DeviceQueue) -> QueueWorker:
        """The engine that serves queue number ``index``: by default, the method named after it.

        Raises UsageError if there is no such method.
        """
        handler = self._handler(self.queue_at(index))
        failed = self._report
        if inspect.iscoroutinefunction(handler):
            from virtio.device.coroutine import CoroutineWorker

            return CoroutineWorker(queue, handler, failed, self._loop_thread())
        from virtio.device.handler import HandlerWorker

        return HandlerWorker(queue, handler, failed)

    # What anyone may use.

    def check(self) -> None:
        """Raise UsageError if a queue has no method, FeatureError if what the device offers cannot be."""
        feature_bits.check(self.device_id, self.offered_features)
        for queue in self.queues:
            if type(self).make_worker is Device.make_worker:
                self._handler(queue)

    @property
    def offered_features(self) -> int:
        """All feature bits that drivers are offered.

        IN_ORDER is left out where coroutines finish out of order: it would hold up what is finished.
        """
        offered = self.features | self.ring_features
        handlers = (getattr(self, queue.name, None) for queue in self.queues)
        if any(inspect.iscoroutinefunction(handler) for handler in handlers):
            offered &= ~feature_bits.mask(feature_bits.IN_ORDER)
        return offered

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The drivers that use the device at the moment."""
        return self._attachments

    def set_config(self, **values: Any) -> None:
        """Change configuration fields at once and notify every driver; see ConfigSpace.update."""
        self.config.update(**values)

    def queue_at(self, index: int) -> Queue:
        """The declaration of queue number ``index``, arrays counted one by one. Raises UsageError."""
        left = index
        for queue in self.queues:
            if left < queue.count:
                return queue
            left -= queue.count
        raise UsageError(f"{type(self).__name__} has no queue {index}")

    def close(self) -> None:
        """End the device's asyncio loop, if it has one. Raises UsageError while a driver is attached."""
        with self._lock:
            if self._attachments:
                raise UsageError(f"{type(self).__name__} is in use")
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    # What an attachment calls.

    def attach(self, attachment: Attachment) -> None:
        """A driver appears. Raises UsageError if there is one already and the device is not shareable,
        FeatureError if what the device offers cannot be."""
        self.check()
        with self._lock:
            if self._attachments and not self.shareable:
                raise UsageError(
                    f"{type(self).__name__} is already in use by another driver",
                    fix="serve another instance of it, or set shareable = True if it is fit for several",
                )
            self._attachments = (*self._attachments, attachment)
        self.config.listen(self._config_changed)

    def detach(self, attachment: Attachment) -> None:
        """A driver is gone."""
        with self._lock:
            self._attachments = tuple(other for other in self._attachments if other is not attachment)

    def _config_changed(self) -> None:
        for attachment in self._attachments:
            attachment.config_changed()

    def _handler(self, queue: Queue) -> Callable[[Request], Any]:
        handler = getattr(self, queue.name, None)
        if not callable(handler):
            raise UsageError(f"{type(self).__name__} has no method {queue.name}(request) for its queue")
        return handler  # type: ignore[no-any-return]

    def _report(self, request: Request, error: BaseException) -> None:
        name = f"queue {self.queue_at(request.queue_index).name} of {type(self).__name__}"
        self._failures.report(name, repr(request), error)
        self.failed(request, error)

    def _loop_thread(self) -> LoopThread:
        from virtio.device.loop import LoopThread

        with self._lock:
            if self._loop is None:
                self._loop = LoopThread(type(self).__name__)
                weakref.finalize(self, self._loop.close)
            return self._loop
