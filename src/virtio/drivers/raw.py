"""Drives a device of any type, request by request: bytes in, bytes out."""

from __future__ import annotations

from dataclasses import dataclass
from socket import socket
from typing import Self

from virtio.drivers.core import Driver, DriverOptions
from virtio.drivers.memory import Buffer
from virtio.drivers.queue import Request, again
from virtio.drivers.transport import Transport
from virtio.errors import UsageError

__all__ = ["Raw", "RawOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawOptions(DriverOptions):
    """`DriverOptions`, and ``features``, a mask of the device type's features to accept if offered."""

    features: int = 0


class _Exchange(Request):
    """A request and the buffer that holds it; freed when the device and the caller are both done with it."""

    __slots__ = ("buffer", "released")

    def __init__(self, buffer: Buffer) -> None:
        super().__init__()
        self.buffer = buffer
        self.released = False

    def complete(self) -> None:
        if self.released:
            self.buffer.free()

    def let_go(self) -> None:
        self.released = True
        if self.done:
            self.buffer.free()


class Raw(Driver):
    """A device of any type, and nothing known of what its requests mean.

    ::

        with Raw.connect("/tmp/upper.sock", device_id=42) as device:
            print(device.request(b"hello", 5))
    """

    def __init__(self, transport: Transport, device_id: int, options: RawOptions | None = None) -> None:
        self.device_id = device_id
        self.wanted = options.features if options else 0
        super().__init__(transport, options)

    @classmethod
    def connect(
        cls,
        address: str | socket,
        *,
        device_id: int,
        features: int = 0,
        num_queues: int = 1,
        queue_size: int = 128,
        packed: bool | None = None,
        poll_us: float = 50,
        timeout: float | None = 30.0,
    ) -> Self:
        """Drive the vhost-user device behind a unix socket: its path, or the connected socket itself.

        Vhost-user does not say of what type a device is, so ``device_id`` does; it gives the feature bits
        their names and rules. Nor does it say how large a queue may be: ``queue_size`` is at most what the
        device declares (RefusedError if not). The other arguments are `RawOptions`. HostError if nothing
        listens, ProtocolError if it is no vhost-user back-end, FeatureError if it lacks what is needed.
        """
        from virtio.drivers.vhost_user import VhostUserTransport

        options = RawOptions(
            features=features,
            num_queues=num_queues,
            queue_size=queue_size,
            packed=packed,
            poll_us=poll_us,
            timeout=timeout,
        )
        return cls(VhostUserTransport.connect(address, timeout=timeout), device_id, options)

    def queue_count(self) -> int:
        """As many as asked for."""
        return self.options.num_queues

    def request(
        self, data: bytes | bytearray | memoryview = b"", answer: int = 0, *, queue: int = 0
    ) -> bytes:
        """Send ``data`` with room for ``answer`` bytes, wait, and return what the device wrote.

        Any number of threads may call it. Raises UsageError for an empty request or a queue that is not
        there, DeviceTimeoutError, DeviceGoneError, or DeviceError if the device breaks the specification.
        """
        sent = memoryview(data).cast("B")
        if answer < 0 or not len(sent) + answer:
            raise UsageError(f"a request of {len(sent)} bytes with room for {answer}")
        if not 0 <= queue < len(self.queues):
            raise UsageError(f"there is no queue {queue} among {len(self.queues)}")
        exchange = _Exchange(self.arena.allocate(len(sent) + answer))
        try:
            exchange.buffer.view[: len(sent)] = sent
            self._send(exchange, len(sent), answer, queue)
            if exchange.error is not None:
                raise again(exchange.error)
            return bytes(exchange.buffer.view[len(sent) : len(sent) + exchange.written])
        finally:
            exchange.let_go()

    def _send(self, exchange: _Exchange, length: int, answer: int, queue: int) -> None:
        """Have the device do it, and wait for the end."""
        readable = (exchange.buffer.slice(0, length),) if length else ()
        writable = (exchange.buffer.slice(length, answer),) if answer else ()
        ring = self.queues[queue]
        try:
            while not ring.submit(exchange, readable, writable):
                ring.wait_for_room(self.options.timeout)
        except BaseException:
            exchange.done = True  # it never reached the device
            raise
        ring.wait_until(lambda: exchange.done, self.options.timeout)
