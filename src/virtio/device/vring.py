"""One virtqueue of one attachment: what a transport sets up, starts, stops and changes under way.

Messages may come in any order. The queue is served while it is started, enabled, and knows its addresses
and the guest's memory; whatever comes last sets it going::

    set up --start, enabled, addresses, memory--> served --fault--> broken
      ^                                           |    ^               |
      |                        disabled, memory or |    | again         |
      |                        addresses change    v    |               |
      +---------------- stop, reset ------------- paused <-- (never) ---+

Only a stop or a reset mends a broken queue.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from virtio.device.queue import Queue
from virtio.errors import DrainError, UsageError, VirtioError
from virtio.virtqueue.make import device_queue
from virtio.virtqueue.queue import DeviceQueue
from virtio.virtqueue.state import QueueState

if TYPE_CHECKING:
    from virtio.device.attachment import Attachment
    from virtio.device.worker import QueueWorker
    from virtio.memory import GuestMemory

__all__ = ["Vring"]

logger = logging.getLogger("virtio.device")

LOG_EVERY = 1.0  # seconds between reminders that a queue is still waiting for its requests
AFTER_CANCEL = 1.0  # seconds that cancelled coroutines get to clean up


class Addresses(NamedTuple):
    """Where the ring's three areas are; ``user``: as the front-end's process names them."""

    descriptors: int
    driver_area: int
    device_area: int
    user: bool


class Vring:
    """One virtqueue as a transport sees it. File descriptors handed in belong to it from then on.

    A transport calls it from one thread; errors name what is wrong with what the driver asked for.
    """

    def __init__(self, attachment: Attachment, index: int, queue: Queue) -> None:
        self.index = index
        self.name = queue.name if queue.count == 1 else f"{queue.name}[{index}]"
        self.max_size = queue.size
        self.error: VirtioError | None = None
        """Why the queue broke, until it is stopped or reset."""
        self._attachment = attachment
        self._drain = queue.drain
        self._worker: QueueWorker | None = None
        self._fds = {"kick": -1, "call": -1, "err": -1}
        self._forget()

    def _forget(self) -> None:
        """Be as before the first message."""
        self.error = None
        self._size = self.max_size
        self._addresses: Addresses | None = None
        self._state = QueueState()
        self._enabled = False
        self._started = False
        self._in_band = False
        for which in self._fds:
            self._set_fd(which, None)

    # What a transport calls.

    @property
    def running(self) -> bool:
        """Whether the queue is being served."""
        return self._worker is not None and self._enabled and self.error is None

    @property
    def size(self) -> int:
        """Descriptors in the ring, as the driver chose."""
        return self._size

    def set_size(self, size: int) -> None:
        """Say how many descriptors the ring has. Raises UsageError beyond ``max_size`` or while started."""
        if not 1 <= size <= self.max_size:
            raise UsageError(f"queue {self.name} can have 1 to {self.max_size} descriptors, not {size}")
        with self._attachment.lock:
            if self._worker is not None and size != self._size:
                raise UsageError(f"queue {self.name} cannot change its size while it is started")
            self._size = size
            self._serve()

    def set_addresses(
        self, descriptors: int, driver_area: int, device_area: int, *, user: bool = False
    ) -> None:
        """Say where the ring is: its descriptors, its driver area and its device area (virtio 1.4, 2.6).

        ``user`` addresses are the front-end process's own; they are translated whenever the memory changes.
        Raises RingError or UsageError if the ring cannot be there.
        """
        addresses = Addresses(descriptors, driver_area, device_area, user)
        with self._attachment.lock:
            if addresses == self._addresses:
                return
            with self._quiesced(rebuild=True):
                self._addresses = addresses
            self._serve()

    def set_state(self, state: QueueState) -> None:
        """Say where to go on. Raises UsageError while started."""
        with self._attachment.lock:
            if self._worker is not None:
                raise UsageError(f"queue {self.name} cannot change its indexes while it is started")
            self._state = state

    def set_kick(self, fd: int | None, *, in_band: bool = False) -> None:
        """Take the eventfd that the driver signals. None: ``kick`` is called (``in_band``), or poll."""
        with self._attachment.lock, self._quiesced():
            self._set_fd("kick", fd)
            self._in_band = in_band

    def set_call(self, fd: int | None) -> None:
        """Take the eventfd to signal the driver with; None: the attachment's on_call is, if there is one.

        Signalled once right away if the queue is served, as the driver may have missed one meanwhile.
        """
        with self._attachment.lock:
            self._exchange("call", fd)
            if fd is not None and self._worker is not None:
                _signal(self._fds["call"])

    def set_err(self, fd: int | None) -> None:
        """Take the eventfd to signal when the queue breaks."""
        with self._attachment.lock:
            self._exchange("err", fd)

    def set_enabled(self, enabled: bool) -> None:
        """Let the queue be served, or not for now. Disabling waits for the requests in flight."""
        with self._attachment.lock:
            if enabled == self._enabled:
                return
            if enabled:
                self._enabled = True
                self._attachment.device.on_queue(self.index, True)
                if self._worker is not None and self.error is None:
                    self._worker.resume()
                self._serve()
            else:
                self._pause()
                self._enabled = False
                self._attachment.device.on_queue(self.index, False)

    def kick(self) -> None:
        """Look at the ring, as the driver asked in-band."""
        worker = self._worker
        if worker is not None:
            worker.kick()

    def start(self) -> None:
        """Serve the queue as soon as it is enabled and all about it is known.

        Raises RingError or UsageError if the ring cannot be where its addresses say.
        """
        with self._attachment.lock:
            self._started = True
            self._serve()

    def stop(self) -> QueueState:
        """Finish the requests in flight and stop. Where to go on later, or elsewhere.

        Requests that do not finish in the time that ``Queue.drain`` allows are given up, which is logged and
        reported as a DrainError to the attachment's on_fault.
        """
        with self._attachment.lock:
            self._started = False
            if self._worker is not None:
                self._worker.stop_soon()
                self._end_worker()
            self.error = None
            return self._state

    def stats(self) -> dict[str, int]:
        """The worker's counters, see QueueWorker.stats; empty while there is no worker."""
        worker = self._worker
        return {} if worker is None else worker.stats()

    # What the attachment calls, holding its lock.

    def stop_soon(self) -> None:
        """Have the worker begin to stop."""
        if self._worker is not None:
            self._worker.stop_soon()

    def reset(self) -> None:
        """Stop, giving up what can be given up, and forget everything."""
        if self._worker is not None:
            self._worker.stop_soon()
            self._worker.cancel()
            self._end_worker()
        if self._enabled:
            self._attachment.device.on_queue(self.index, False)
        self._forget()

    def hold_soon(self) -> None:
        """Have the worker begin to pause for other memory."""
        if self._worker is not None:
            self._worker.hold_soon()

    def wait_paused(self) -> None:
        """Wait for the worker to pause."""
        if self._worker is not None:
            self._settle(self._worker)

    def memory_changed(self) -> None:
        """Go on in the attachment's present memory, after a pause."""
        if self._worker is not None:
            self._rebuild()
        else:
            with self._reporting():
                self._serve()

    # What the worker calls, on its own thread and without locks.

    def on_fault(self, error: VirtioError) -> None:
        """The queue broke; it is not served any more."""
        self.error = error
        self._attachment.fault(self.index, error)

    def on_miss(self, address: int) -> None:
        """An address is not translated yet; the worker waits for other memory."""
        self._attachment.miss(self.index, address)

    def on_call(self) -> None:
        """Notify the driver in-band."""
        self._attachment.call(self.index)

    # Serving.

    def _serve(self) -> None:
        """Begin serving if nothing is missing any more."""
        memory = self._attachment.memory
        ready = self._started and self._enabled and self._addresses is not None and memory is not None
        if not ready or self._worker is not None or self.error is not None:
            return
        queue = self._make_queue()
        self._attachment.make_ready()
        worker = self._attachment.device.make_worker(self.index, queue)
        self._configure(worker)
        worker.start()
        self._worker = worker

    def _configure(self, worker: QueueWorker) -> None:
        attachment = self._attachment
        worker.configure(
            index=self.index,
            name=self.name,
            kick_fd=self._fds["kick"],
            call_fd=self._fds["call"],
            err_fd=self._fds["err"],
            in_band=self._in_band,
            poll_us=attachment.poll_us,
            cpus=attachment.cpus_of(self.index),
            listener=self,
            call_listener=attachment.calls_in_band,
        )

    def _make_queue(self) -> DeviceQueue:
        memory = self._attachment.memory
        assert memory is not None
        features = self._attachment.features
        return device_queue(memory, self._size, *self._areas(memory), features=features, state=self._state)

    def _areas(self, memory: GuestMemory) -> tuple[int, int, int]:
        """The guest addresses of the ring's areas."""
        assert self._addresses is not None
        *areas, user = self._addresses
        first, second, third = (memory.user_to_guest(area) for area in areas) if user else areas
        return first, second, third

    def _rebuild(self) -> None:
        """Go on with the ring where it is now; break the queue if it cannot be there."""
        worker, memory = self._worker, self._attachment.memory
        assert worker is not None
        with self._reporting():
            if self.error is not None or memory is None:
                self._discard()  # lets go of the old memory
                return
            if self._areas(memory) == worker.queue.areas:
                worker.queue.set_memory(memory)
                worker.replace(worker.queue)
            else:
                self._pause()  # chains in flight belong to the old ring: they must be back first
                self._state = worker.queue.state()
                worker.replace(self._make_queue())
            self._configure(worker)
            if self._enabled:
                worker.resume()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Break the queue on an error instead of failing the change that brought it about."""
        try:
            yield
        except VirtioError as error:
            self._discard()
            # Kept until the queue is stopped: its traceback would keep the worker and the old memory, too.
            self.error = error.with_traceback(None)
            _signal(self._fds["err"])
            self._attachment.fault(self.index, error)

    @contextlib.contextmanager
    def _quiesced(self, *, rebuild: bool = False) -> Iterator[None]:
        """Pause around a change, and take it up."""
        self._pause()
        yield
        worker = self._worker
        if worker is None:
            return
        if rebuild:
            self._rebuild()
        else:
            self._configure(worker)
            if self._enabled:
                worker.resume()

    def _pause(self) -> None:
        if self._worker is not None:
            self._worker.pause_soon()
            self._settle(self._worker)

    def _discard(self) -> None:
        if self._worker is not None:
            self._worker.stop_soon()
            self._end_worker()

    def _end_worker(self) -> None:
        """Wait for the worker, that was told to stop, and let it go."""
        worker = self._worker
        assert worker is not None
        if self._settle(worker):
            self._state = worker.queue.state()
            worker.close()
            self._worker = None

    def _settle(self, worker: QueueWorker) -> bool:
        """Wait until the worker has paused or stopped. False if it had to be abandoned."""
        deadline = time.monotonic() + self._drain
        while not worker.settle(max(0.0, min(LOG_EVERY, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                break
            logger.warning("queue %s waits for %d requests in flight", self.name, worker.queue.outstanding)
        else:
            return True
        worker.cancel()
        if worker.settle(AFTER_CANCEL):
            return True
        self._abandon(worker)
        return False

    def _abandon(self, worker: QueueWorker) -> None:
        """Let a worker go that does not come to an end; it will not touch the ring any more."""
        lost = worker.queue.outstanding
        self._state = worker.queue.state()
        worker.abandon()
        self._worker = None
        error = DrainError(f"queue {self.name} stopped with {lost} requests unfinished")
        logger.error("%s", error)
        self.error = error
        self._attachment.fault(self.index, error)

    # File descriptors.

    def _set_fd(self, which: str, fd: int | None) -> None:
        if self._fds[which] >= 0:
            os.close(self._fds[which])
        if fd is not None:
            os.set_blocking(fd, False)  # a peer must not be able to make us wait in read or write
        self._fds[which] = -1 if fd is None else fd

    def _exchange(self, which: str, fd: int | None) -> None:
        """Change an fd that the worker writes to, without stopping it where that is possible."""
        if fd is None or self._fds[which] < 0:
            with self._quiesced():
                self._set_fd(which, fd)
            return
        os.set_blocking(fd, False)
        os.dup2(fd, self._fds[which], inheritable=False)  # atomic: the worker goes on with the number
        os.close(fd)


def _signal(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.write(fd, (1).to_bytes(8, "little"))  # eventfd_write refuses the pipes some peers send
