"""A virtqueue as the rest of a driver uses it: requests go in, finished requests come out.

Any number of threads may submit and wait. One of the waiting threads leads: it spins or sleeps for all, then
reaps and wakes the others; leadership passes on when its own request is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from virtio.drivers.channel import Channel
from virtio.errors import DeviceError, DeviceTimeoutError, UsageError, VirtioError

__all__ = ["Request", "RequestQueue", "Segments", "again"]

Segments = Sequence[tuple[int, int]]
"""(device address, bytes) pairs."""

# A sleeping leader looks up this often, so that a lost notification costs a moment and never hangs.
LONGEST_SLEEP = 1.0


def again(error: VirtioError) -> VirtioError:
    """The same error to be raised once more: an instance collects the traces of all who raise it."""
    return type(error)(str(error), fix=error.fix)


class Request:
    """One chain on its way through the device.

    Subclasses override `complete`, which runs in whichever thread reaps, with the queue's lock held: it must
    be short and must not submit.
    """

    __slots__ = ("done", "error", "writable", "written")

    def __init__(self) -> None:
        self.done = False
        self.error: VirtioError | None = None
        self.written = 0
        self.writable = 0

    def complete(self) -> None:
        """The device is finished with it (``error`` is None), or never will be (``error`` says why)."""


class RequestQueue:
    """One virtqueue and the requests on it."""

    def __init__(self, index: int, channel: Channel) -> None:
        self.index = index
        self.channel = channel
        self.size = channel.queue.size
        self.failure: VirtioError | None = None
        self.requests = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._leader = False
        self._exclusive = False
        self._pending: dict[int, Request] = {}
        self._next_token = 0
        self._finished: list[Request] = []
        self._listener: Callable[[], object] | None = None

    @property
    def outstanding(self) -> int:
        """Requests the device has not finished."""
        return len(self._pending)

    def submit(self, request: Request, readable: Segments, writable: Segments) -> bool:
        """Offer a request. False if the ring has no room now. Raises what stopped the queue, if anything."""
        with self._lock:
            self._check()
            token = self._next_token
            if not self.channel.add(readable, writable, token):
                return False
            self._next_token = (token + 1) & 0xFFFF_FFFF_FFFF_FFFF
            self._pending[token] = request
            request.writable = sum(length for _, length in writable)
            self.requests += 1
            self.channel.publish()
        return True

    def poll(self) -> int:
        """Reap what has finished, without waiting; how many did. 0 while another thread waits."""
        with self._lock:
            if self._leader or self._exclusive:
                return 0
            count = self._reap()
            if count:
                self._changed.notify_all()
            self._check()
        return count

    def wait_until(self, ready: Callable[[], bool], timeout: float | None) -> None:
        """Reap until ``ready()`` (called with the lock held) is true.

        ``timeout`` in seconds; None waits for ever. DeviceTimeoutError, or what stopped the queue.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while not ready():
                self._check()
                left = LONGEST_SLEEP if deadline is None else min(deadline - time.monotonic(), LONGEST_SLEEP)
                if left <= 0:
                    raise DeviceTimeoutError(f"queue {self.index}: no answer within {timeout:g} s")
                if self._leader:
                    self._changed.wait(left)
                else:
                    self._lead(left)

    def wait_for_room(self, timeout: float | None) -> None:
        """Wait until any request has finished, so that another may fit."""
        before = len(self._pending)
        self.wait_until(lambda: len(self._pending) < before or not self._pending, timeout)

    def fail(self, error: VirtioError) -> None:
        """Stop the queue: everything under way and everything submitted later fails with ``error``."""
        with self._lock:
            self._fail(error)
            self._changed.notify_all()
        if self._listener is not None:
            self._listener()

    def retire(self) -> None:
        """After `fail`: return once no thread looks at the ring or its bells any more."""
        with self._lock:
            while self._leader or self._exclusive:
                self._changed.wait(0.1)

    def listen(self, listener: Callable[[], object] | None) -> None:
        """Have ``listener`` called (in any thread) when the queue is stopped by `fail`."""
        self._listener = listener

    def arm(self) -> bool:
        """For event loops: have the call fd become readable for the next completion. True: poll at once."""
        with self._lock:
            if self.failure is not None or self._leader:  # a leader reaps for everybody
                return False
            return self.channel.arm()

    @contextmanager
    def exclusive(self) -> Iterator[Channel]:
        """Lend the bare queue to code that drives it by itself; it must leave the ring empty."""
        with self._lock:
            self._check()
            if self._pending:
                raise UsageError(f"queue {self.index} has requests under way")
            self._exclusive = True
        try:
            yield self.channel
        finally:
            with self._lock:
                self._exclusive = False
                self._changed.notify_all()

    def ring_error(self) -> VirtioError:
        """What the device did wrong with the ring."""
        fault = self.channel.queue.fault_error()
        return (
            DeviceError(f"queue {self.index}: the device's used ring is nonsense") if fault is None else fault
        )

    def _check(self) -> None:
        if self.failure is not None:
            raise again(self.failure)
        if self._exclusive:
            raise UsageError(f"queue {self.index} is lent out")

    def _lead(self, seconds: float) -> None:
        """Wait for the device with the lock released, then reap with it held."""
        self._leader = True
        self._lock.release()
        try:
            self.channel.wait(int(seconds * 1e9))
        finally:
            self._lock.acquire()
            self._leader = False
            self._reap()
            self._changed.notify_all()

    def _reap(self) -> int:
        count = 0
        while self.failure is None:
            finished = self.channel.reap()
            if finished is None:
                self._fail(self.ring_error())
                break
            for token, written in finished:
                self._finish(token, written)
            count += len(finished)
            if not finished:
                break
        return count

    def _finish(self, token: int, written: int) -> None:
        request = self._pending.pop(token, None)
        if request is None:
            self._fail(DeviceError(f"queue {self.index}: the device finished a request it was never given"))
            return
        request.written = written
        if written > request.writable:
            self._fail(
                DeviceError(
                    f"queue {self.index}: the device says it wrote {written} bytes into {request.writable}"
                )
            )
            request.error = self.failure
        self._settle(request)

    def _fail(self, error: VirtioError) -> None:
        if self.failure is None:
            self.failure = error
        pending, self._pending = list(self._pending.values()), {}
        for request in pending:
            request.error = self.failure
            self._settle(request)

    @staticmethod
    def _settle(request: Request) -> None:
        request.done = True
        request.complete()
