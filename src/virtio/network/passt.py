"""The link to passt, which shows consideration for the passt of 2023 that Debian 12 has.

That one has two faults. When a read ends within the length of a frame or right behind it, it forgets that
length and takes the frame itself for the next one; so each frame is sent by a call of its own. And when the
guest has closed a TCP connection and a read brings several segments of it, it spins for ever once the first
of them ends the connection; so from the guest's FIN on, a segment is sent when passt has read what went
before.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.virtio.network.copies import copy_out
from cython.cimports.virtio.network.frame import Frame
from cython.cimports.virtio.network.stream import StreamLink

__all__ = ["PasstLink"]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def take_apart(frame: cython.pointer[cython.const[Frame]], segment: cython.pointer[Segment]) -> cython.bint:
    """Find TCP in a frame; false if there is none. Later fragments of IPv4 have none."""
    head: uint8_t[PEEK]
    size: uint32_t = copy_out(frame, cython.cast(cython.p_char, head), PEEK)
    addresses: uint32_t
    end: uint32_t
    at: uint32_t
    if size < 54:
        return False
    if head[12] == 0x08 and head[13] == 0x00 and head[14] >> 4 == 4 and head[23] == 6:
        if head[20] & 0x1F or head[21]:
            return False
        addresses, end, at = 26, 34, 14 + 4 * (head[14] & 15)
    elif head[12] == 0x86 and head[13] == 0xDD and head[14] >> 4 == 6 and head[20] == 6:
        addresses, end, at = 22, 54, 54
    else:
        return False
    if at < end or size < at + 14:
        return False
    i: uint32_t
    prime: uint64_t = 0x100000001B3
    connection: uint64_t = 0xCBF29CE484222325  # FNV-1a
    for i in range(addresses, end):
        connection = (connection ^ head[i]) * prime
    for i in range(at, at + 4):
        connection = (connection ^ head[i]) * prime
    segment.connection = connection
    segment.flags = head[at + 13]
    return True


class PasstLink:
    """A link to passt; ``mtu`` is what it tells the guest too, None: nothing."""

    def __init__(self, mtu: int | None = None) -> None:
        StreamLink.__init__(self, "user:", apart=True)
        self._mtu = mtu
        memset(self.closing, 0, cython.sizeof(self.closing))

    @property
    def mtu(self) -> int | None:
        """What passt tells the guest."""
        return self._mtu

    def waits(self, frame):
        """Whether a frame belongs to a connection that the guest has closed before; note it when it does."""
        segment = cython.declare(Segment)
        if not take_apart(frame, cython.address(segment)):
            return False
        place: cython.pointer[uint64_t] = cython.address(self.closing[segment.connection % CLOSINGS])
        if place[0] == segment.connection:
            if segment.flags & SYN:
                place[0] = 0  # its ports are used again
            return True
        if segment.flags & FIN:
            place[0] = segment.connection
        return False

    def has_read(self, fd):
        """Whether passt has read all that it was sent, for which it gets a millisecond."""
        unread: cython.int = 0
        _i: cython.int
        nap: timespec = timespec(0, NAP)
        for _i in range(NAPS):
            if ioctl(fd, SIOCOUTQ, cython.address(unread)) or unread == 0:
                return True
            nanosleep(cython.address(nap), cython.NULL)
        return False

    def send_some(self, fd, frames, count):
        if self.waits(frames) and not self.has_read(fd):
            return 0
        return StreamLink.send_some(self, fd, frames, count)
