"""The block device as a Python object: offsets and lengths in bytes, statuses as exceptions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from socket import socket
from typing import Self

from virtio.drivers.blk.file import BlkFile
from virtio.drivers.blk.operation import BlkQueue, BlkRequest, Operation, Piece
from virtio.drivers.blk.properties import Properties, read_properties
from virtio.drivers.configuration import config_size
from virtio.drivers.core import Driver, DriverOptions
from virtio.drivers.memory import Buffer
from virtio.drivers.queue import Segments
from virtio.drivers.transport import Transport
from virtio.errors import UnsupportedRequestError, UsageError, VirtioError
from virtio.spec import blk
from virtio.spec import features as bits

__all__ = ["Blk", "BlkOptions"]

LARGEST_REQUEST = 1 << 20  # bytes; longer transfers are several requests in flight
WINDOW = 8 << 20  # bytes of a copied transfer that are in device memory at once

Data = bytes | bytearray | memoryview | Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class BlkOptions(DriverOptions):
    """`DriverOptions`, and ``on_resize``, called with the new capacity in bytes by the watching thread."""

    on_resize: Callable[[int], None] | None = None


class Blk(Driver):
    """A virtio block device.

    ::

        with Blk.connect("/tmp/disk.sock") as disk:
            disk.write(0, b"hello".ljust(512, b"\\0"))
            disk.flush()
            print(disk.read(0, 512))

    Offsets and lengths are in bytes and multiples of `block_size` (UsageError if not). Blocking calls may be
    made from any number of threads; each thread keeps to one queue. They raise DeviceIOError or
    UnsupportedRequestError as the device says, DeviceTimeoutError, DeviceGoneError, or DeviceError if it
    breaks the specification. `submit` and `poll` keep many requests in flight from one thread; data in a
    `buffer` is not copied.
    """

    device_id = 2
    wanted = bits.mask(
        blk.F_SIZE_MAX,
        blk.F_SEG_MAX,
        blk.F_RO,
        blk.F_BLK_SIZE,
        blk.F_FLUSH,
        blk.F_TOPOLOGY,
        blk.F_CONFIG_WCE,
        blk.F_MQ,
        blk.F_DISCARD,
        blk.F_WRITE_ZEROES,
    )

    def __init__(self, transport: Transport, options: BlkOptions | None = None) -> None:
        self.properties = Properties(capacity=0)
        self.block_queues: list[BlkQueue] = []
        self._completed: deque[BlkRequest] = deque()
        self._on_resize = options.on_resize if options else None
        super().__init__(transport, options)

    @classmethod
    def connect(
        cls,
        address: str | socket,
        *,
        num_queues: int = 1,
        queue_size: int = 128,
        packed: bool | None = None,
        without: int = 0,
        arena_size: int = 64 << 20,
        hugepages: bool = False,
        poll_us: float = 50,
        timeout: float | None = 30.0,
        on_resize: Callable[[int], None] | None = None,
    ) -> Self:
        """Drive the vhost-user device behind a unix socket: its path, or the connected socket itself.

        The arguments are `BlkOptions`. HostError if nothing listens, ProtocolError if it is no vhost-user
        back-end, FeatureError if it lacks what is needed.
        """
        from virtio.drivers.vhost_user import VhostUserTransport

        options = BlkOptions(
            num_queues=num_queues,
            queue_size=queue_size,
            packed=packed,
            without=without,
            arena_size=arena_size,
            hugepages=hugepages,
            poll_us=poll_us,
            timeout=timeout,
            on_resize=on_resize,
        )
        return cls(VhostUserTransport.connect(address, timeout=timeout), options)

    # What the disk is.

    @property
    def capacity(self) -> int:
        """Bytes on the disk."""
        return self.properties.capacity

    @property
    def block_size(self) -> int:
        """Logical block size in bytes: what offsets and lengths are multiples of."""
        return self.properties.block_size

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self.has(blk.F_RO)

    @property
    def serial(self) -> str:
        """The device's identity string (GET_ID), at most 20 characters."""
        answer = self.run([Piece(blk.T_GET_ID)])
        return answer.split(b"\0")[0].decode("ascii", "backslashreplace")

    @property
    def writeback(self) -> bool:
        """Whether written data may be lost before a `flush` (virtio 1.4, 5.2.5)."""
        if self.has(blk.F_CONFIG_WCE):
            return bool(self.read_config(_offset(blk.Config.writeback), 1)[0])
        return self.has(blk.F_FLUSH)

    @writeback.setter
    def writeback(self, wanted: bool) -> None:
        if not self.has(blk.F_CONFIG_WCE):
            raise UnsupportedRequestError("the device does not let its cache mode be set (CONFIG_WCE)")
        self.write_config(_offset(blk.Config.writeback), bytes([wanted]))

    # Blocking calls.

    def read(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``."""
        self.check_range(offset, length)
        parts = []
        for at, size in _windows(offset, length, WINDOW):
            bounce = self.arena.allocate(size)
            operation = Operation(self.transfer(blk.T_IN, at, bounce.slice(0, size)), bounce)
            try:
                self._run(operation)
                parts.append(bytes(bounce.view))
            finally:
                operation.let_go()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, offset: int, target: bytearray | memoryview | Buffer) -> None:
        """Fill ``target``; without a copy if it is a `buffer`."""
        if isinstance(target, Buffer):
            self.check_range(offset, len(target))
            self.run(self.transfer(blk.T_IN, offset, target.slice(0, len(target))))
        else:
            memoryview(target).cast("B")[:] = self.read(offset, memoryview(target).nbytes)

    def write(self, offset: int, data: Data) -> None:
        """Write ``data``; without a copy if it is a `buffer`. Durable after `flush`, unless writethrough."""
        if isinstance(data, Buffer):
            self.check_range(offset, len(data))
            self.run(self.transfer(blk.T_OUT, offset, data.slice(0, len(data))))
            return
        source = memoryview(data).cast("B")
        self.check_range(offset, len(source))
        for at, size in _windows(offset, len(source), WINDOW):
            bounce = self.arena.allocate(size)
            bounce.view[:] = source[at - offset : at - offset + size]
            operation = Operation(self.transfer(blk.T_OUT, at, bounce.slice(0, size)), bounce)
            try:
                self._run(operation)
            finally:
                operation.let_go()

    def flush(self) -> None:
        """Return once everything written is durable. Nothing to do on a device without a volatile cache."""
        if self.has(blk.F_FLUSH):
            self.run([Piece(blk.T_FLUSH)])

    def discard(self, offset: int, length: int) -> None:
        """Tell the device that the content no longer matters; what is read there then is undefined."""
        self.run(self.extents(blk.T_DISCARD, offset, length))

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Make a range read as zeros; with ``unmap`` the device may free the storage behind it."""
        self.run(self.extents(blk.T_WRITE_ZEROES, offset, length, unmap=unmap))

    def open(self) -> BlkFile:
        """The disk as an unbuffered binary file (any offset, any length); closing it flushes."""
        return BlkFile(self)

    # Many requests in flight.

    def buffer(self, size: int) -> Buffer:
        """Memory that the device reaches directly. Free it when no request uses it."""
        return self.arena.allocate(size)

    def submit(
        self,
        kind: int,
        offset: int = 0,
        data: Buffer | None = None,
        *,
        extent: int = 0,
        queue: int | None = None,
        unmap: bool = False,
    ) -> BlkRequest | None:
        """Start one request and return it, or None if the queue is full (then `poll` or `wait`).

        ``kind`` is a ``virtio.spec.blk.T_*``; IN and OUT take ``data``, DISCARD and WRITE_ZEROES ``extent``
        in bytes. Sent as it is: nothing is checked against the disk's size or limits.
        """
        segments = () if data is None else self._segments(data.address, len(data))
        piece = Piece(kind, offset, segments, extent, unmap)
        return self._block_queue(queue).submit(piece, self._completed.append)

    def poll(self) -> list[BlkRequest]:
        """Requests from `submit` that have finished since the last call; never waits."""
        try:
            for queue in self.queues:
                queue.poll()
        except VirtioError:
            if not self._completed:  # those that failed are told of first
                raise
        return self._drain()

    def wait(self, timeout: float | None = None, *, queue: int | None = None) -> list[BlkRequest]:
        """As `poll`, but wait for at least one on the queue; [] if none is under way."""
        requests = self._block_queue(queue).queue
        requests.wait_until(
            lambda: bool(self._completed) or not requests.outstanding,
            self.options.timeout if timeout is None else timeout,
        )
        return self._drain()

    def _drain(self) -> list[BlkRequest]:
        return [self._completed.popleft() for _ in range(len(self._completed))]

    # Operations: planned here, run by this class (blocking) or by `virtio.drivers.aio` (asyncio).

    def transfer(self, kind: int, offset: int, memory: tuple[int, int]) -> list[Piece]:
        """An IN or OUT of device memory (address, bytes) as requests within the device's limits."""
        if kind == blk.T_OUT and self.read_only:
            raise UnsupportedRequestError("the device is read-only")
        limits = self.properties
        most = min(LARGEST_REQUEST, limits.segment_size * limits.segments)
        most = max(limits.block_size, most - most % limits.block_size)
        address, length = memory
        return [
            Piece(kind, at, self._segments(address + at - offset, size))
            for at, size in _windows(offset, length, most)
        ]

    def extents(self, kind: int, offset: int, length: int, *, unmap: bool = False) -> list[Piece]:
        """A DISCARD or WRITE_ZEROES as requests within the device's limits."""
        limits = self.properties
        most = limits.max_discard if kind == blk.T_DISCARD else limits.max_write_zeroes
        if not most:
            name = "DISCARD" if kind == blk.T_DISCARD else "WRITE_ZEROES"
            raise UnsupportedRequestError(f"the device does not offer {name}")
        self.check_range(offset, length)
        most = min(most, 0xFFFF_FFFF * blk.SECTOR_SIZE)
        most = max(limits.block_size, most - most % limits.block_size)
        return [
            Piece(kind, at, extent=size, unmap=unmap and limits.write_zeroes_may_unmap)
            for at, size in _windows(offset, length, most)
        ]

    def check_range(self, offset: int, length: int) -> None:
        """UsageError unless the range is made of whole blocks on the disk."""
        block = self.block_size
        if offset % block or length % block:
            raise UsageError(f"offset {offset} and length {length} are not multiples of {block} bytes")
        if offset < 0 or length < 0 or offset + length > self.capacity:
            raise UsageError(
                f"bytes {offset} to {offset + length} are not on a disk of {self.capacity} bytes"
            )

    def run(self, pieces: list[Piece]) -> bytes:
        """Do them all and wait; what GET_ID answered."""
        return self._run(Operation(pieces))

    def _run(self, operation: Operation) -> bytes:
        queue = self._block_queue(None)
        timeout = self.options.timeout
        while not operation.issue(queue):
            queue.queue.wait_for_room(timeout)
        queue.queue.wait_until(operation.settled, timeout)
        return operation.result()

    def _segments(self, address: int, length: int) -> Segments:
        most = self.properties.segment_size
        if length <= most:
            return ((address, length),)
        return [(address + at, size) for at, size in _windows(0, length, most)]

    def _block_queue(self, index: int | None) -> BlkQueue:
        return self.block_queues[self.queue().index if index is None else index]

    # Life.

    def queue_count(self) -> int:
        """As many as wanted, if the device has them; one without MQ."""
        self.read_configuration()
        return min(self.options.num_queues, self.properties.num_queues)

    def set_up_queues(self, count: int) -> None:
        """Each with memory for its requests' heads."""
        super().set_up_queues(count)
        self.block_queues = [BlkQueue(queue, self.arena) for queue in self.queues]

    def read_configuration(self) -> None:
        """Take over the configuration, and report a new capacity."""
        size = config_size(blk.DEVICE, self.features)
        before = self.properties.capacity
        self.properties = read_properties(self.read_config(0, size), self.features)
        if before and before != self.capacity and self._on_resize is not None:
            self._on_resize(self.capacity)

    def free_queues(self) -> None:
        """The heads' memory too."""
        for queue in self.block_queues:
            queue.close()
        self.block_queues = []
        super().free_queues()


def _windows(offset: int, length: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a range into (start, length) of at most ``most`` bytes each."""
    end = offset + length
    while offset < end:
        size = min(most, end - offset)
        yield offset, size
        offset += size


def _offset(field: object) -> int:
    offset = getattr(field, "offset", None)
    assert isinstance(offset, int)
    return offset
