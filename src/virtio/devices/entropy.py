"""The entropy device (virtio 1.4, 5.4): random bytes for the guest. The smallest device; start here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from io import FileIO

from virtio.device import Device, Queue, Request
from virtio.errors import HostError, UsageError
from virtio.spec import entropy as spec

__all__ = ["Entropy"]

MOST_AT_ONCE = 1 << 16  # bytes for one request; the driver asks again


class Entropy(Device):
    """Fills the driver's buffers with random bytes, from the kernel's generator or from ``source``.

    ``source`` is a file to read instead, such as /dev/hwrng. ``max_bytes`` per ``period`` milliseconds bound
    what the guest may draw; requests beyond that wait for the next period. Raises HostError if ``source``
    cannot be opened, UsageError for a limit that lets nothing through.
    """

    device_id = spec.DEVICE.id
    queues = (Queue("requests", size=64),)

    def __init__(
        self,
        source: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = None,
        period: int = 60_000,
    ) -> None:
        self._source = None if source is None else _open(source)
        if max_bytes is not None:
            self._allowance = Allowance(max_bytes, period)
            self.queues = (Queue("rationed_requests", size=64),)  # a queue's name is its handler's

    def requests(self, request: Request) -> None:
        """Answer with at least one random byte, and no more than the buffers hold."""
        if request.writable_length:
            request.write(self._draw(min(request.writable_length, MOST_AT_ONCE)))

    async def rationed_requests(self, request: Request) -> None:
        """The same within the limit; a coroutine, since it may have to wait."""
        import asyncio  # slow to load, and most devices do without

        wanted = min(request.writable_length, MOST_AT_ONCE)
        granted = self._allowance.take(wanted)
        while granted < min(wanted, 1):
            await asyncio.sleep(self._allowance.wait())
            granted = self._allowance.take(wanted)
        if granted:
            request.write(self._draw(granted))

    def _draw(self, size: int) -> bytes:
        if self._source is None:
            return os.getrandom(size)
        data = self._source.read(size)
        if not data:
            raise HostError(f"random source {self._source.name} has come to its end")
        return data

    def close(self) -> None:
        """Close the source. UsageError while a driver is attached."""
        super().close()
        if self._source is not None:
            self._source.close()


class Allowance:
    """``most`` bytes in each ``period`` of milliseconds; what is not drawn is not saved up."""

    def __init__(self, most: int, period: int, clock: Callable[[], float] = time.monotonic) -> None:
        if most < 1 or period < 1:
            raise UsageError(f"a limit of {most} bytes in {period} milliseconds lets nothing through")
        self._most = most
        self._seconds = period / 1000
        self._clock = clock
        self._left = most
        self._until = clock() + self._seconds

    def take(self, wanted: int) -> int:
        """As many of ``wanted`` bytes as may be had now."""
        now = self._clock()
        if now >= self._until:
            self._left = self._most
            self._until = now + self._seconds
        granted = min(wanted, self._left)
        self._left -= granted
        return granted

    def wait(self) -> float:
        """Seconds until there is more."""
        return max(self._until - self._clock(), 0.0)


def _open(source: str | os.PathLike[str]) -> FileIO:
    try:
        return FileIO(source)
    except OSError as error:
        raise HostError(f"random source {os.fspath(source)}: {error.strerror}") from error
