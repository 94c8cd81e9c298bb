"""Receive steering (virtio 1.4, 5.1.6.5, Device operation in multiqueue mode): which queue a frame goes to.

`Steering` knows one queue, `FlowSteering` follows the driver's own choice (MQ), `RssSteering` a hash and the
driver's table (RSS). Each reports the hash of a frame where a hasher was given.
"""

# ruff: noqa: D102, F821 -- the .pxd declares these names and says what its methods do

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int32_t, uint8_t, uint16_t, uint32_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.devices.net.headers import HEAD, Flow, head_of, octets, read_flow
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.frame import Frame

from virtio.errors import UsageError

__all__ = ["FlowSteering", "RssSteering", "Steering"]


class Steering:
    """Everything goes to the first queue. ``hasher``: report its hashes."""

    def __init__(self, hasher=None):
        self.hasher = hasher

    def pick(self, frame, time=0):
        """``(pair, hash, HASH_REPORT_*)`` for an Ethernet frame, any bytes-like object, at ``time`` (ms)."""
        data: bytes = bytes(frame)
        part = cython.declare(iovec)
        one = cython.declare(Frame)
        value: uint32_t = 0
        report: uint16_t = 0
        wrap(data, cython.address(part), cython.address(one))
        pair = self.choose(cython.address(one), time, cython.address(value), cython.address(report))
        return pair, value, report

    def learn(self, pair, frame, time=0):
        """Say that the driver transmitted ``frame`` on ``pair`` at ``time`` (ms)."""
        data: bytes = bytes(frame)
        part = cython.declare(iovec)
        one = cython.declare(Frame)
        wrap(data, cython.address(part), cython.address(one))
        self.sent(pair, cython.address(one), time)

    def choose(self, frame, time, hash, report):
        scratch = cython.declare(uint8_t[HEAD])
        length: uint32_t = 0
        hash[0] = 0
        report[0] = 0
        if self.hasher is not None:
            head: octets = head_of(frame, scratch, cython.address(length))
            self.hasher.hash(head, length, hash, report)
        return 0

    def sent(self, pair, frame, time):
        pass


class FlowSteering:
    """A flow comes in on the pair that it is sent on, else on one that its addresses and ports decide.

    A driver may send one flow on several pairs by turns: Linux does that as an interrupt and the program that
    reads are on different processors. Going along would put its frames out of order, so a flow changes its
    pair only when nothing has come in for `PAUSE`, or nothing was sent on the former one for `PATIENCE`.

    ``pairs`` are in use, 1 to 32768. What is no IP packet goes to the first.
    """

    def __init__(self, pairs, hasher=None):
        if not 1 <= pairs <= 0x8000:
            raise UsageError(f"there can be 1 to 32768 pairs, not {pairs}")
        Steering.__init__(self, hasher)
        self.pairs = pairs

    def choose(self, frame, time, hash, report):
        scratch = cython.declare(uint8_t[HEAD])
        length: uint32_t = 0
        place: uint32_t
        path: cython.pointer[Path]
        known: cython.int
        head: octets = head_of(frame, scratch, cython.address(length))
        hash[0] = 0
        report[0] = 0
        if self.hasher is not None:
            self.hasher.hash(head, length, hash, report)
        if not place_of(head, length, cython.address(place)):
            return 0
        path = cython.address(self.paths[place % FLOWS])
        known = atomic.load_u16(cython.address(path.pair), atomic.RELAXED)
        if known == 0:
            return place % self.pairs
        note_time(cython.address(path.received), time)
        return known - 1

    def sent(self, pair, frame, time):
        scratch = cython.declare(uint8_t[HEAD])
        length: uint32_t = 0
        place: uint32_t
        path: cython.pointer[Path]
        known: cython.int
        if pair < 0 or pair >= self.pairs:
            return
        head: octets = head_of(frame, scratch, cython.address(length))
        if not place_of(head, length, cython.address(place)):
            return
        path = cython.address(self.paths[place % FLOWS])
        known = atomic.load_u16(cython.address(path.pair), atomic.RELAXED)
        if known != pair + 1:
            if known != 0 and not (
                passed(cython.address(path.received), time, PAUSE)
                or passed(cython.address(path.sent), time, PATIENCE)
            ):
                return
            atomic.store_u16(cython.address(path.pair), pair + 1, atomic.RELAXED)
        note_time(cython.address(path.sent), time)


class RssSteering:
    """The hash, cut to the table's size, picks a place in ``table``; others go to ``unclassified``.

    ``table`` holds pairs, a power of two of them. UsageError if it does not.
    """

    def __cinit__(self, *args, **kwargs):
        self.table = cython.NULL

    def __init__(self, hasher, table, unclassified):
        size = len(table)
        if self.table != cython.NULL or size & (size - 1) or not 1 <= size <= 0x10000:
            raise UsageError(f"an indirection table has a power of two of entries, not {size}")
        Steering.__init__(self, hasher)
        self.unclassified = unclassified
        self.mask = size - 1
        self.table = cython.cast(cython.pointer[uint16_t], calloc(size, cython.sizeof(uint16_t)))
        if self.table == cython.NULL:
            raise MemoryError
        for at, pair in enumerate(table):
            self.table[at] = pair

    def __dealloc__(self):
        free(self.table)

    def choose(self, frame, time, hash, report):
        scratch = cython.declare(uint8_t[HEAD])
        length: uint32_t = 0
        head: octets = head_of(frame, scratch, cython.address(length))
        if self.hasher.hash(head, length, hash, report):
            return self.table[hash[0] & self.mask]
        return self.unclassified


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def passed(since: cython.pointer[uint32_t], time: uint32_t, wait: int32_t) -> cython.bint:
    """Whether it is long enough ago; another thread's time may be a little later than this one's."""
    return cython.cast(int32_t, time - atomic.load_u32(since, atomic.RELAXED)) >= wait


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def note_time(at: cython.pointer[uint32_t], time: uint32_t) -> cython.void:
    """Written rarely, so that the line is shared."""
    if atomic.load_u32(at, atomic.RELAXED) != time:
        atomic.store_u32(at, time, atomic.RELAXED)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def place_of(frame: octets, length: uint32_t, place: cython.pointer[uint32_t]) -> cython.bint:
    """A number for the flow, the same for both directions; False for what is no IP packet."""
    flow = cython.declare(Flow)
    i: cython.int
    total: uint32_t = 0
    read_flow(frame, length, cython.address(flow))
    if flow.address_bytes == 0:
        return False
    for i in range(0, flow.address_bytes, 4):
        total = total * 31 + (word(flow.source + i) ^ word(flow.target + i))
    if flow.ports != cython.NULL:
        # Without ports (fragments) the flow's number is another one: they may take another queue.
        total = total * 31 + (halfword(flow.ports) ^ halfword(flow.ports + 2)) + flow.protocol
    total ^= total >> 16
    total *= 0x5BD1E995
    place[0] = total ^ total >> 13
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def word(at: octets) -> uint32_t:
    return cython.cast(uint32_t, at[0]) << 24 | at[1] << 16 | at[2] << 8 | at[3]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def halfword(at: octets) -> uint32_t:
    return at[0] << 8 | at[1]


@cython.cfunc
def wrap(data: bytes, part: cython.pointer[iovec], frame: cython.pointer[Frame]):
    """Make ``frame`` of the bytes, in one piece."""
    part.iov_base = cython.cast(cython.p_void, cython.cast(cython.p_char, data))
    part.iov_len = len(data)
    frame.segments = part
    frame.count = 1
    frame.length = len(data)
