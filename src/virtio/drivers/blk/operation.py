"""Block requests in flight: the memory of their heads, and operations made of several requests.

A head takes one 64-byte slot::

     0  struct virtio_blk_req: type, reserved, sector
    16  struct virtio_blk_discard_write_zeroes, where the request has one
    32  the answer to GET_ID
    63  status
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from virtio.drivers.memory import Arena, Buffer
from virtio.drivers.queue import Request, RequestQueue, Segments, again
from virtio.errors import DeviceError, DeviceIOError, RequestFailedError, UnsupportedRequestError, VirtioError
from virtio.spec import blk

__all__ = ["BlkQueue", "BlkRequest", "Operation", "Piece", "name_of"]

SLOT = 64
SEGMENT_AT = 16
ID_AT = 32
STATUS_AT = 63
NO_STATUS = 0xFF  # a value no device writes: still there means it wrote none

HEADER = Struct("<IIQ")  # le32 type, le32 reserved, le64 sector
SEGMENT = Struct("<QII")  # le64 sector, le32 num_sectors, le32 flags


@dataclass(frozen=True, slots=True)
class Piece:
    """One request to be made. ``segments`` is its data in device memory; ``extent`` the bytes it is about,
    for requests that carry (sector, count) rather than data."""

    kind: int
    offset: int = 0
    segments: Segments = ()
    extent: int = 0
    unmap: bool = False


class BlkRequest(Request):
    """One request on its way: ``kind`` is a ``virtio.spec.blk.T_*``, ``offset`` in bytes."""

    __slots__ = ("_notify", "_queue", "_slot", "answer", "kind", "offset", "status")

    def __init__(self, piece: Piece, notify: Callable[[BlkRequest], None]) -> None:
        super().__init__()
        self.kind = piece.kind
        self.offset = piece.offset
        self.status = NO_STATUS
        self.answer = b""
        self._notify = notify
        self._queue: BlkQueue | None = None
        self._slot = -1

    def complete(self) -> None:
        """Take the status, give the slot back and tell who asked."""
        assert self._queue is not None
        if self.error is None:
            self._queue.read_answer(self)
            self.error = status_error(self)
        self._queue.free_slot(self._slot)
        self._notify(self)

    def result(self) -> None:
        """Return if the device was content; raise what it said if not."""
        if self.error is not None:
            raise again(self.error)


class BlkQueue:
    """A request queue and the slots for its requests' heads."""

    def __init__(self, queue: RequestQueue, arena: Arena) -> None:
        self.queue = queue
        self._slab = arena.allocate(queue.size * SLOT)
        self._free = list(range(queue.size))

    def submit(self, piece: Piece, notify: Callable[[BlkRequest], None]) -> BlkRequest | None:
        """Send a piece on its way; None if there is no room for it now."""
        try:
            slot = self._free.pop()
        except IndexError:
            return None
        request = BlkRequest(piece, notify)
        request._queue, request._slot = self, slot
        try:
            sent = self.queue.submit(request, *self._fill(slot, piece))
        except BaseException:
            self._free.append(slot)
            raise
        if not sent:
            self._free.append(slot)
            return None
        return request

    def _fill(self, slot: int, piece: Piece) -> tuple[Segments, Segments]:
        at, address, view = slot * SLOT, self._slab.address + slot * SLOT, self._slab.view
        sector = piece.offset // blk.SECTOR_SIZE
        head, status = (address, HEADER.size), (address + STATUS_AT, 1)
        HEADER.pack_into(view, at, piece.kind, 0, sector if piece.kind in (blk.T_IN, blk.T_OUT) else 0)
        view[at + STATUS_AT] = NO_STATUS
        if piece.kind == blk.T_IN:
            return [head], [*piece.segments, status]
        if piece.kind == blk.T_GET_ID:
            view[at + ID_AT : at + ID_AT + blk.ID_BYTES] = bytes(blk.ID_BYTES)
            return [head], [(address + ID_AT, blk.ID_BYTES), status]
        if piece.extent:
            flags = blk.WRITE_ZEROES_FLAG_UNMAP if piece.unmap else 0
            SEGMENT.pack_into(view, at + SEGMENT_AT, sector, piece.extent // blk.SECTOR_SIZE, flags)
            return [head, (address + SEGMENT_AT, SEGMENT.size)], [status]
        return [head, *piece.segments], [status]

    def read_answer(self, request: BlkRequest) -> None:
        """Take over what the device wrote into a finished request's slot."""
        at = request._slot * SLOT
        request.status = self._slab.view[at + STATUS_AT]
        if request.kind == blk.T_GET_ID:
            request.answer = bytes(self._slab.view[at + ID_AT : at + ID_AT + blk.ID_BYTES])

    def free_slot(self, slot: int) -> None:
        """The slot's request is finished."""
        self._free.append(slot)

    def close(self) -> None:
        """Give the slots' memory back."""
        self._slab.free()


class Operation:
    """Pieces that together are what the caller asked for.

    `issue` until it returns True, waiting for room in between; then wait until `settled`; in any case
    `let_go`. ``bounce`` is freed when the device can no longer be writing to it, even if the caller gave up.
    """

    def __init__(
        self,
        pieces: list[Piece],
        bounce: Buffer | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        self.error: VirtioError | None = None
        self.answer = b""
        self._pieces = pieces
        self._bounce = bounce
        self.on_progress = on_progress
        self._issued = 0
        self._finished = 0
        self._released = False

    def issue(self, queue: BlkQueue) -> bool:
        """Send as many pieces as there is room for. True when no more are to be sent."""
        while self._issued < len(self._pieces) and self.error is None:
            self._issued += 1
            if queue.submit(self._pieces[self._issued - 1], self._piece_finished) is None:
                self._issued -= 1
                return False
        return True

    def settled(self) -> bool:
        """Whether the device holds none of it, and no more is to be sent."""
        everything = self._issued == len(self._pieces) or self.error is not None
        return everything and self._finished == self._issued

    def let_go(self) -> None:
        """The caller is done with it: free the bounce buffer now, or when the device is done with it."""
        self._released = True
        if self._finished >= self._issued:
            self._free_bounce()

    def result(self) -> bytes:
        """What the device answered (GET_ID); raises the first error."""
        if self.error is not None:
            raise again(self.error)
        return self.answer

    def _piece_finished(self, request: BlkRequest) -> None:
        self._finished += 1
        self.answer = request.answer
        if request.error is not None and self.error is None:
            self.error = request.error
        if self._released and self._finished >= self._issued:
            self._free_bounce()
        if self.on_progress is not None:
            self.on_progress()

    def _free_bounce(self) -> None:
        if self._bounce is not None:
            self._bounce.free()


def name_of(kind: int) -> str:
    """A request type's name: "OUT"."""
    return blk.DEVICE.constant_name("T_", kind)


def status_error(request: BlkRequest) -> RequestFailedError | DeviceError | None:
    """A finished request's status byte as an error, None if it is S_OK."""
    status = request.status
    what = f"{name_of(request.kind)} at byte {request.offset}"
    if status == blk.S_OK:
        return None
    if status == blk.S_IOERR:
        return DeviceIOError(f"{what}: the device reports an I/O error")
    if status == blk.S_UNSUPP:
        return UnsupportedRequestError(f"{what}: the device does not support this request")
    if status == NO_STATUS:
        return DeviceError(f"{what}: the device finished it without a status")
    return DeviceError(f"{what}: the device answered with the unknown status {status}")
