"""A network device on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Self

from virtio.drivers import net as blocking
from virtio.drivers.net.nic import BURST, FrameLike
from virtio.drivers.net.receiver import Frame
from virtio.drivers.queue import RequestQueue
from virtio.errors import DeviceTimeoutError

__all__ = ["Net"]


class Net:
    """A network device whose frames are awaited.

    Made by `connect` on a running loop, and used on that loop alone, by any number of tasks. ``nic`` is the
    device's blocking face: its properties (``features``, ``control`` ...) may be used, its blocking calls
    stop the loop.
    """

    def __init__(self, nic: blocking.Net) -> None:
        self.nic = nic
        self._loop = asyncio.get_running_loop()
        self._receiving = asyncio.Lock()
        self._sending = asyncio.Lock()

    @classmethod
    async def connect(cls, address: str, **options: Any) -> Self:
        """As the blocking ``Net.connect``, with the same arguments."""
        return cls(await asyncio.to_thread(blocking.Net.connect, address, **options))

    @property
    def mac(self) -> str:
        """Its address."""
        return self.nic.mac

    @property
    def mtu(self) -> int | None:
        """Bytes of payload that the device's network takes; None if it does not say."""
        return self.nic.mtu

    @property
    def link_up(self) -> bool:
        """Whether there is a carrier; True where the device does not say."""
        return self.nic.link_up

    async def receive(self, limit: int = BURST) -> list[Frame]:
        """Up to ``limit`` frames of all pairs, one at least, as soon as there is one.

        Raises DeviceGoneError once the device is gone or closed, DeviceError if it breaks the specification.
        """
        async with self._receiving:
            while not (frames := self.nic.receive(limit, 0.0)):
                await self._rung([pair.receive_queue for pair in self.nic.pairs])
            return frames

    async def frames(self, limit: int = BURST) -> AsyncIterator[Frame]:
        """The frames of all pairs as they come, until the device is gone or closed."""
        while True:
            for frame in await self.receive(limit):
                yield frame

    async def send(self, frames: Sequence[FrameLike], *, pair: int = 0) -> None:
        """Give a burst of frames to the device, as soon as it has room for them all. They are copied.

        What a frame can be, and the errors for one that cannot, are the blocking ``Net.send``'s.
        DeviceTimeoutError if there is no room for so long as the driver was told to wait.
        """
        limit = self.nic.options.timeout
        try:
            async with self._sending, asyncio.timeout(limit):
                await self._send(frames, pair)
        except TimeoutError:
            raise DeviceTimeoutError(f"the device has not taken all frames within {limit:g} s") from None

    async def _send(self, frames: Sequence[FrameLike], pair: int) -> None:
        sent = 0
        while (sent := sent + self.nic.send(frames[sent:], 0.0, pair=pair)) < len(frames):
            await self._rung([self.nic.pairs[pair].transmit_queue])

    async def flush(self, timeout: float | None = None) -> None:
        """Return once the device has taken all frames that were sent. DeviceTimeoutError if it does not."""
        async with self._sending:
            await asyncio.to_thread(self.nic.flush, timeout)

    async def close(self) -> None:
        """Let the device take what was sent (for a second at most), reset it and let go of it."""
        await asyncio.to_thread(self.nic.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _rung(self, queues: Sequence[RequestQueue]) -> None:
        """Return when the device has finished something on one of the queues, or a queue was stopped."""
        bell = asyncio.Event()
        fds = [queue.channel.call_fd for queue in queues]
        for queue, fd in zip(queues, fds, strict=True):
            queue.listen(lambda: self._ring(bell))
            # Only while it is waited for: a bell that nobody answers would keep the loop busy.
            self._loop.add_reader(fd, bell.set)
        try:
            ready = [queue.failure is not None or queue.arm() for queue in queues]
            if not any(ready):
                await bell.wait()
        finally:
            for queue, fd in zip(queues, fds, strict=True):
                self._loop.remove_reader(fd)
                queue.listen(None)

    def _ring(self, bell: asyncio.Event) -> None:
        """From whatever thread met the failure."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(bell.set)
