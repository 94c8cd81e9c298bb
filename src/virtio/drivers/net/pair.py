"""A pair of queues as any number of threads use it: one at a time, waiting without the GIL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from virtio.drivers.channel import Channel
from virtio.drivers.net.receiver import Frame, Receiver
from virtio.drivers.net.transmitter import Transmitter
from virtio.drivers.queue import LONGEST_SLEEP, RequestQueue, again
from virtio.errors import DeviceError, DeviceTimeoutError

__all__ = ["Pair"]

T = TypeVar("T")


class Pair:
    """One receive queue and one transmit queue."""

    def __init__(
        self, receive: RequestQueue, transmit: RequestQueue, receiver: Receiver, transmitter: Transmitter
    ) -> None:
        self.receive_queue = receive
        self.transmit_queue = transmit
        self.receiver = receiver
        self.transmitter = transmitter
        self.receive_lock = threading.Lock()
        self.transmit_lock = threading.Lock()

    def receive(self, limit: int, timeout: float | None) -> list[Frame]:
        """Up to ``limit`` frames; none if none came within ``timeout`` seconds (None: wait for ever)."""
        with self.receive_lock, self.receive_queue.exclusive() as channel:
            return _wait(channel, self.receive_queue, timeout, lambda: self._burst(limit))

    def _burst(self, limit: int) -> list[Frame]:
        return _named(self.receive_queue, lambda: self.receiver.burst(limit))

    def send(
        self, frames: Sequence[Any], timeout: float | None, checker: Callable[[Any, int], bytes | None]
    ) -> int:
        """Give all frames to the device; how many were, when ``timeout`` passes without room for more."""
        sent = 0
        with self.transmit_lock, self.transmit_queue.exclusive() as channel:

            def offer() -> bool:
                nonlocal sent
                sent = _named(self.transmit_queue, lambda: self.transmitter.send(frames, sent, checker))
                return sent == len(frames)

            _wait(channel, self.transmit_queue, timeout, offer)
        return sent

    def flush(self, timeout: float | None) -> None:
        """Wait until the device has taken everything."""
        with self.transmit_lock, self.transmit_queue.exclusive() as channel:
            done = _wait(channel, self.transmit_queue, timeout, lambda: not self._outstanding())
        if not done:
            raise DeviceTimeoutError(f"the device has not taken all frames within {timeout:g} s")

    def _outstanding(self) -> int:
        return _named(self.transmit_queue, self.transmitter.poll)

    def arm(self) -> bool:
        """For event loops: have the receive queue's bell ring. True: look at once."""
        with self.receive_lock:
            return self.receive_queue.failure is not None or self.receive_queue.channel.arm()

    def close(self) -> None:
        """Both queues are gone."""
        self.receiver.retire()
        self.transmitter.retire()


def _named(queue: RequestQueue, act: Callable[[], T]) -> T:
    """What the device did wrong stops the queue, for everybody."""
    try:
        return act()
    except DeviceError as error:
        queue.fail(error)
        raise


def _wait(channel: Channel, queue: RequestQueue, timeout: float | None, attempt: Callable[[], T]) -> T:
    """Attempt until it gives something true, sleeping on the queue's bell in between."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        if queue.failure is not None:
            raise again(queue.failure)
        result = attempt()
        left = LONGEST_SLEEP if deadline is None else min(deadline - time.monotonic(), LONGEST_SLEEP)
        if result or left <= 0:
            return result
        channel.wait(int(left * 1e9))
