"""Drives a virtio entropy device (virtio 1.4, 5.4)."""

from __future__ import annotations

from socket import socket
from typing import Self

from virtio.drivers.core import Driver, DriverOptions
from virtio.drivers.memory import Buffer
from virtio.drivers.queue import Request, again
from virtio.errors import DeviceError, UsageError

__all__ = ["Entropy"]

CHUNK = 64 << 10  # bytes asked for at once


class _Fill(Request):
    """A buffer at the device; freed when the device is done with it and the caller has let go."""

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


class Entropy(Driver):
    """A source of random bytes.

    ::

        with Entropy.connect("/tmp/rng.sock") as source:
            key = source.read(32)
    """

    device_id = 4

    @classmethod
    def connect(
        cls,
        address: str | socket,
        *,
        packed: bool | None = None,
        poll_us: float = 50,
        timeout: float | None = 30.0,
    ) -> Self:
        """Drive the vhost-user device behind a unix socket: its path, or the connected socket itself."""
        from virtio.drivers.vhost_user import VhostUserTransport

        options = DriverOptions(
            packed=packed, poll_us=poll_us, timeout=timeout, queue_size=16, arena_size=2 << 20
        )
        return cls(VhostUserTransport.connect(address, timeout=timeout), options)

    def read(self, length: int) -> bytes:
        """``length`` random bytes. The device may give fewer at a time; it is asked until they are enough."""
        if length < 0:
            raise UsageError(f"{length} random bytes")
        parts = []
        while length:
            part = self._read_some(min(length, CHUNK))
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _read_some(self, length: int) -> bytes:
        request = _Fill(self.arena.allocate(length))
        try:
            while not self.queues[0].submit(request, (), (request.buffer.slice(0, length),)):
                self.queues[0].wait_for_room(self.options.timeout)
            self.queues[0].wait_until(lambda: request.done, self.options.timeout)
        except BaseException:
            request.let_go()
            raise
        data = bytes(request.buffer.view[: request.written])
        request.let_go()
        if request.error is not None:
            raise again(request.error)
        if not data:
            raise DeviceError("the entropy device returned a buffer with nothing in it")
        return data
