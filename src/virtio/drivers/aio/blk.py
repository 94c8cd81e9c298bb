"""A block device on an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from virtio.drivers import blk as blocking
from virtio.drivers.blk.operation import BlkQueue, Operation, Piece
from virtio.drivers.memory import Buffer
from virtio.drivers.queue import RequestQueue
from virtio.errors import DeviceTimeoutError, VirtioError
from virtio.spec import blk

__all__ = ["Blk"]


class Blk:
    """A block device whose requests are awaited; any number may be in flight.

    Made by `connect` on a running loop, and used on that loop alone. ``disk`` is the device's blocking face:
    its properties (``capacity``, ``features`` ...) may be used, its blocking calls stop the loop.
    A cancelled request stays with the device until it is done; its memory is freed then.
    """

    def __init__(self, disk: blocking.Blk) -> None:
        self.disk = disk
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._starved: deque[asyncio.Event] = deque()
        self._turn = 0
        for queue in disk.queues:
            queue.listen(self._on_failure)
            self._loop.add_reader(queue.channel.call_fd, self._reap, queue)
            self._reap(queue)

    @classmethod
    async def connect(cls, address: str, **options: Any) -> Self:
        """As the blocking ``Blk.connect``, with the same arguments."""
        disk = await asyncio.to_thread(blocking.Blk.connect, address, **options)
        return cls(disk)

    @property
    def capacity(self) -> int:
        """Bytes on the disk."""
        return self.disk.capacity

    @property
    def block_size(self) -> int:
        """Logical block size in bytes."""
        return self.disk.block_size

    async def read(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``."""
        self.disk.check_range(offset, length)
        if not length:
            return b""
        bounce = self.disk.arena.allocate(length)
        operation = Operation(self.disk.transfer(blk.T_IN, offset, bounce.slice(0, length)), bounce)
        try:
            await self._run(operation)
            return bytes(bounce.view)
        finally:
            operation.let_go()

    async def read_into(self, offset: int, target: Buffer) -> None:
        """Fill a device buffer, without a copy."""
        self.disk.check_range(offset, len(target))
        await self._run(Operation(self.disk.transfer(blk.T_IN, offset, target.slice(0, len(target)))))

    async def write(self, offset: int, data: bytes | bytearray | memoryview | Buffer) -> None:
        """Write ``data``; without a copy if it is a device buffer."""
        length = len(data) if isinstance(data, Buffer) else memoryview(data).nbytes
        self.disk.check_range(offset, length)
        if not length:
            return
        bounce = None
        if not isinstance(data, Buffer):
            bounce = self.disk.arena.allocate(length)
            bounce.view[:] = memoryview(data).cast("B")
            memory = bounce.slice(0, length)
        else:
            memory = data.slice(0, length)
        operation = Operation(self.disk.transfer(blk.T_OUT, offset, memory), bounce)
        try:
            await self._run(operation)
        finally:
            operation.let_go()

    async def flush(self) -> None:
        """Return once everything written is durable."""
        if self.disk.has(blk.F_FLUSH):
            await self._run(Operation([Piece(blk.T_FLUSH)]))

    async def discard(self, offset: int, length: int) -> None:
        """Tell the device that the content no longer matters."""
        await self._run(Operation(self.disk.extents(blk.T_DISCARD, offset, length)))

    async def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Make a range read as zeros."""
        await self._run(Operation(self.disk.extents(blk.T_WRITE_ZEROES, offset, length, unmap=unmap)))

    async def serial(self) -> str:
        """The device's identity string."""
        answer = await self._run(Operation([Piece(blk.T_GET_ID)]))
        return answer.split(b"\0")[0].decode("ascii", "backslashreplace")

    async def close(self) -> None:
        """Reset the device and let go of it."""
        for queue in self.disk.queues:
            self._loop.remove_reader(queue.channel.call_fd)
        await asyncio.to_thread(self.disk.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _run(self, operation: Operation) -> bytes:
        queue = self.disk.block_queues[self._turn % len(self.disk.block_queues)]
        self._turn += 1
        progress = asyncio.Event()
        operation.on_progress = lambda: self._on_loop(progress.set)
        try:
            async with asyncio.timeout(self.disk.options.timeout):
                await self._drive(operation, queue, progress)
        except TimeoutError:
            raise DeviceTimeoutError(f"no answer within {self.disk.options.timeout:g} s") from None
        finally:
            self._let_others_in(1)
        return operation.result()

    async def _drive(self, operation: Operation, queue: BlkQueue, progress: asyncio.Event) -> None:
        while True:
            progress.clear()
            issued = operation.issue(queue)
            if issued and operation.settled():
                return
            if not issued:
                self._starved.append(progress)
            await progress.wait()

    def _reap(self, queue: RequestQueue) -> None:
        """The device rang: settle what finished, and ask to be rung again."""
        try:
            while queue.arm():
                self._let_others_in(queue.poll())
        except VirtioError:
            self._let_others_in(len(self._starved))  # they meet the error when they try

    def _let_others_in(self, count: int) -> None:
        """As many requests as finished may find room now."""
        while count > 0 and self._starved:
            self._starved.popleft().set()
            count -= 1

    def _on_failure(self) -> None:
        self._on_loop(lambda: self._let_others_in(len(self._starved)))

    def _on_loop(self, call: Callable[[], None]) -> None:
        """Do it now if this is the loop's thread, else there and soon."""
        if threading.get_ident() == self._thread:
            call()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)
