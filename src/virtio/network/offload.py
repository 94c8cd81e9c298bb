"""Finishing frames for receivers that do not: checksums, TCP segments, UDP datagrams, IP fragments.

A sender that negotiated it leaves the checksum to the device, and hands over one long frame where the network
wants many (virtio 1.4, Network Device, Packet Transmission). What the receiver does not accept is finished
here, in memory of our own: the sender may go on writing to its own meanwhile.

Per segment: the IPv4 identification and the TCP sequence number go on, FIN and PSH are on the last one only,
CWR on the first one only (RFC 3168, 6.1.2). A GSO_UDP frame becomes IP fragments of one datagram.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import EINVAL
from cython.cimports.libc.stdint import uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memmove, memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.network.checksum import folded, get16, get32, put16, put32, store_sum, sum_words
from cython.cimports.virtio.network.frame import (
    BURST,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    GSO_UDP_L4,
    LONGEST_FRAME,
    NEEDS_CSUM,
    Frame,
    NetHeader,
)

from virtio.errors import UsageError

__all__ = ["Finisher", "finish", "takes_of"]

# The features of the driver's side, then the device's, for each bit of Takes: virtio 1.4, Network Device.
GUEST_BITS = {1: 1, 7: 2, 8: 4, 9: 8, 10: 16, 54: 32, 55: 64}
HOST_BITS = {0: 1, 11: 2, 12: 4, 13: 8, 14: 16, 56: 32 | 64}


def takes_of(features: int, *, host: bool = False) -> int:
    """What a receiver with these feature bits finishes itself, as bits of Takes.

    The GUEST_* bits count, or with ``host`` CSUM and the HOST_* bits.
    """
    takes = 0
    for bit, part in (HOST_BITS if host else GUEST_BITS).items():
        if features >> bit & 1:
            takes |= part
    return takes


def finish(
    frame: bytes,
    *,
    flags: int = 0,
    gso_type: int = 0,
    gso_size: int = 0,
    csum_start: int = 0,
    csum_offset: int = 0,
) -> list[bytes]:
    """The finished frames that one unfinished frame stands for; the options are those of its header.

    Raises UsageError if the headers of the frame do not fit what is to be done.
    """
    if len(frame) > LONGEST_FRAME or csum_start + csum_offset + 2 > len(frame):
        raise UsageError(f"a frame of {len(frame)} bytes does not fit its header")
    place: iovec
    whole: Frame
    piece: Frame
    finisher = Finisher()
    data: bytes = frame
    made: list = []
    place.iov_base = cython.cast(cython.p_char, data)
    place.iov_len = len(data)
    memset(cython.address(whole), 0, cython.sizeof(Frame))
    whole.segments = cython.address(place)
    whole.count = 1
    whole.length = len(data)
    whole.header.flags = flags
    whole.header.gso_type = gso_type
    whole.header.gso_size = gso_size
    whole.header.csum_start = csum_start
    whole.header.csum_offset = csum_offset
    if finished(cython.address(whole.header), 0, cython.address(whole)):
        return [frame]
    if finisher.begin(cython.address(whole)) < 0:
        raise UsageError("the frame's headers do not fit its GSO type")
    while finisher.more():
        while finisher.next(cython.address(piece)):
            made.append(_joined(cython.address(piece)))
        finisher.recycle()
    return made


@cython.cfunc
def _joined(frame: cython.pointer[Frame]) -> bytes:
    copy = bytearray(frame.length)
    view: cython.p_char = copy
    copy_out(frame, 0, view, frame.length)
    return bytes(copy)


def wanted_by(header, frame):
    kind: cython.int = header.gso_type & ~GSO_ECN
    ecn: cython.int = TAKES_ECN if header.gso_type & GSO_ECN else 0
    if kind == GSO_TCPV4:
        return TAKES_TSO4 | ecn
    if kind == GSO_TCPV6:
        return TAKES_TSO6 | ecn
    if kind == GSO_UDP:
        return TAKES_UFO
    version: cython.int = version_of(frame)
    if version == 4:
        return TAKES_USO4
    if version == 6:
        return TAKES_USO6
    return TAKES_USO4 | TAKES_USO6


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def version_of(frame: cython.pointer[Frame]) -> cython.int:
    """4, 6, or 0 for anything else, by the type of the frame behind its VLAN tags."""
    head: uint8_t[2]
    at: uint32_t = ETHERNET - 2
    while at + 2 <= frame.length and at <= ETHERNET - 2 + 2 * TAG:
        copy_out(frame, at, cython.cast(cython.p_char, head), 2)
        if head[0] == 0x08 and head[1] == 0x00:
            return 4
        if head[0] == 0x86 and head[1] == 0xDD:
            return 6
        if not is_tag(head):
            return 0
        at += TAG
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_tag(type: cython.pointer[uint8_t]) -> cython.bint:
    """Is this frame type that of a VLAN tag: 0x8100 or 0x88a8?"""
    return (type[0] == 0x81 and type[1] == 0x00) or (type[0] == 0x88 and type[1] == 0xA8)


def copy_out(frame, offset, target, length):
    i: cython.int = 0
    run: uint64_t
    skip: uint64_t = offset
    while length > 0 and i < frame.count:
        if skip < frame.segments[i].iov_len:
            run = min(frame.segments[i].iov_len - skip, length)
            memcpy(target, cython.cast(cython.p_char, frame.segments[i].iov_base) + skip, run)
            target += run
            length -= cython.cast(uint32_t, run)
            skip = 0
        else:
            skip -= frame.segments[i].iov_len
        i += 1


class Finisher:
    """Makes finished frames of unfinished ones."""

    def __cinit__(self):
        self.scratch = cython.cast(cython.p_char, malloc(SCRATCH))
        if self.scratch == cython.NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.scratch)

    def room(self, length):
        return self.made < BURST and SCRATCH - self.used >= length

    def begin(self, frame):
        header: NetHeader = frame.header
        if frame.length > LONGEST_FRAME or not self.room(frame.length):
            return -EINVAL
        self.frame = self.scratch + self.used
        self.length = frame.length
        copy_out(frame, 0, self.frame, frame.length)
        memset(cython.address(self.cut), 0, cython.sizeof(Cut))
        if header.gso_type == GSO_NONE or header.gso_size == 0:
            self.cut.kind = WHOLE
            self.cut.payload = frame.length
            self.cut.size = frame.length
            if self.fill_checksum(cython.address(header)) < 0:
                self.cut.payload = 0
                return -EINVAL
        elif self.plan(cython.address(header)) < 0:
            self.cut.payload = self.cut.done = 0
            return -EINVAL
        self.used += frame.length
        return 0

    def more(self):
        return self.cut.done < self.cut.payload

    def abandon(self):
        self.cut.done = self.cut.payload

    def recycle(self):
        """The present frame moves to the front, unless all of it was handed out."""
        self.made = 0
        self.used = 0
        if self.more():
            memmove(self.scratch, self.frame, self.length)
            self.frame = self.scratch
            self.used = self.length

    def next(self, frame):
        piece: cython.pointer[iovec] = self.pieces[self.made]
        head: cython.pointer[uint8_t] = cython.cast(cython.pointer[uint8_t], self.headers[self.made])
        cut: cython.pointer[Cut] = cython.address(self.cut)
        size: uint32_t = min(cut.size, cut.payload - cut.done)
        last: cython.bint = cut.done + size == cut.payload
        if not self.more() or self.made == BURST:
            return False
        memset(cython.address(frame.header), 0, cython.sizeof(NetHeader))
        frame.segments = piece
        if cut.kind == WHOLE:
            piece[0].iov_base = self.frame
            frame.count = 1
            frame.length = size
        else:
            memcpy(head, self.frame, min(cut.headers, self.length))
            piece[1].iov_base = self.frame + (self.length - cut.payload) + cut.done
            piece[1].iov_len = size
            self.write_network(head, size, last)
            if cut.kind == IP_FRAGMENTS:
                self.write_fragment(head, last)
            else:
                self.write_transport(head, size, last)
            piece[0].iov_base = head
            frame.count = 2
            frame.length = cut.headers + size
        piece[0].iov_len = frame.length if cut.kind == WHOLE else cut.headers
        cut.done += size
        cut.index += 1
        self.made += 1
        return True

    def fill_checksum(self, header):
        """Compute the one checksum that was left: 0, or -EINVAL if it is not within the frame.

        Its field holds the sum of the pseudo header, so it is part of what is summed.
        """
        start: uint32_t = header.csum_start
        at: uint32_t = start + header.csum_offset
        data: cython.pointer[uint8_t] = cython.cast(cython.pointer[uint8_t], self.frame)
        if not header.flags & NEEDS_CSUM:
            return 0
        if at + 2 > self.length:
            return -EINVAL
        store_sum(data + at, sum_words(data + start, self.length - start, 0))
        return 0

    # How a frame is to be cut.

    def plan(self, header):
        """Understand the headers. 0, or -EINVAL if they are not what the GSO type says."""
        data: cython.pointer[uint8_t] = cython.cast(cython.pointer[uint8_t], self.frame)
        cut: cython.pointer[Cut] = cython.address(self.cut)
        gso: cython.int = header.gso_type & ~GSO_ECN
        type_at: uint32_t = ETHERNET - 2
        while type_at + 2 <= self.length and is_tag(data + type_at):
            type_at += TAG
            if type_at > ETHERNET - 2 + 2 * TAG:
                return -EINVAL
        cut.network = type_at + 2
        if cut.network + 20 > self.length:
            return -EINVAL
        cut.six = get16(data + type_at) == 0x86DD
        if not cut.six and get16(data + type_at) != 0x0800:
            return -EINVAL
        if (gso == GSO_TCPV4 and cut.six) or (gso == GSO_TCPV6 and not cut.six):
            return -EINVAL
        if (self.plan_ipv6(header) if cut.six else self.plan_ipv4(header)) < 0:
            return -EINVAL
        if cut.protocol != (17 if gso in (GSO_UDP, GSO_UDP_L4) else 6):
            return -EINVAL
        return self.plan_fragments(header) if gso == GSO_UDP else self.plan_transport(header)

    def plan_ipv4(self, header):
        ip: cython.pointer[uint8_t] = cython.cast(cython.pointer[uint8_t], self.frame) + self.cut.network
        length: uint32_t = (ip[0] & 15) * 4
        total: uint32_t = get16(ip + 2)
        left: uint32_t = self.length - self.cut.network
        if ip[0] >> 4 != 4 or length < 20 or length > left or get16(ip + 6) & 0x3FFF:
            return -EINVAL
        if total != 0 and (total > left or total < length):
            return -EINVAL
        if total != 0:
            self.length = self.cut.network + total  # what is behind is padding
        self.cut.transport = self.cut.network + length
        self.cut.protocol = ip[9]
        self.cut.id = cython.cast(uint16_t, get16(ip + 4))
        return 0

    def plan_ipv6(self, header):
        ip: cython.pointer[uint8_t] = cython.cast(cython.pointer[uint8_t], self.frame) + self.cut.network
        at: uint32_t = 40
        left: uint32_t = self.length - self.cut.network
        link: uint32_t = 6
        if left < 40 or ip[0] >> 4 != 6 or get16(ip + 4) > left - 40:
            return -EINVAL
        if get16(ip + 4) != 0:
            left = 40 + get16(ip + 4)
            self.length = self.cut.network + left
        # Hop-by-hop and destination options, routing; a fragment cannot be cut again.
        while ip[link] in (0, 43, 60):
            if at + 8 > left or at > LONGEST_HEADERS:
                return -EINVAL
            link = at
            at += 8 + 8 * cython.cast(uint32_t, ip[at + 1])
        self.cut.protocol = ip[link]
        self.cut.link = self.cut.network + link
        self.cut.transport = self.cut.network + at
        return 0

    def plan_transport(self, header):
        """Cut at the end of the TCP or UDP header."""
        cut: cython.pointer[Cut] = cython.address(self.cut)
        data: cython.pointer[uint8_t] = cython.cast(cython.pointer[uint8_t], self.frame) + cut.transport
        size: uint32_t = 8
        if cut.protocol == 6:
            if cut.transport + 20 > self.length:
                return -EINVAL
            size = (data[12] >> 4) * 4
            cut.sequence = get32(data + 4)
            if size < 20:
                return -EINVAL
        cut.kind = TCP_SEGMENTS if cut.protocol == 6 else UDP_DATAGRAMS
        cut.headers = cut.transport + size
        # There must be something to cut: a frame without payload has no reason to be here.
        if cut.headers >= self.length or cut.headers > LONGEST_HEADERS:
            return -EINVAL
        if header.flags & NEEDS_CSUM and header.csum_start != cut.transport:
            return -EINVAL
        cut.payload = self.length - cut.headers
        cut.size = header.gso_size
        return 0

    def plan_fragments(self, header):
        """Cut behind the IP headers: one datagram, whose checksum is computed before."""
        cut: cython.pointer[Cut] = cython.address(self.cut)
        if cut.transport + 8 > self.length or cut.transport + 8 > LONGEST_HEADERS:
            return -EINVAL
        if header.flags & NEEDS_CSUM and header.csum_start != cut.transport:
            return -EINVAL
        cut.kind = IP_FRAGMENTS
        cut.headers = cut.transport + (8 if cut.six else 0)
        cut.payload = self.length - cut.transport
        cut.size = header.gso_size & ~7
        if cut.size == 0:
            return -EINVAL
        self.identity += 1
        cut.identity = self.identity
        return self.fill_checksum(header)

    # What differs from piece to piece.

    def write_network(self, head, size, last):
        cut: cython.pointer[Cut] = cython.address(self.cut)
        ip: cython.pointer[uint8_t] = head + cut.network
        at: uint32_t
        check: uint16_t
        if cut.six:
            put16(ip + 4, cut.headers - cut.network - 40 + size)
            return
        put16(ip + 2, cut.headers - cut.network + size)
        if cut.kind == IP_FRAGMENTS:
            at = cut.done >> 3
            put16(ip + 6, at if last else at | 0x2000)
        else:
            put16(ip + 4, cut.id + cut.index)
        put16(ip + 10, 0)
        check = folded(sum_words(ip, cut.transport - cut.network, 0))
        memcpy(ip + 10, cython.address(check), 2)

    def write_fragment(self, head, last):
        """The header of an IPv6 fragment (RFC 8200, 4.5), between the IP headers and the piece."""
        cut: cython.pointer[Cut] = cython.address(self.cut)
        place: cython.pointer[uint8_t] = head + cut.transport
        if not cut.six:
            return
        head[cut.link] = 44
        place[0] = cut.protocol
        place[1] = 0
        put16(place + 2, cut.done if last else cut.done | 1)
        put32(place + 4, cut.identity)

    def write_transport(self, head, size, last):
        cut: cython.pointer[Cut] = cython.address(self.cut)
        place: cython.pointer[uint8_t] = head + cut.transport
        length: uint32_t = cut.headers - cut.transport + size
        data: cython.pointer[uint8_t] = cython.cast(cython.pointer[uint8_t], self.frame)
        check: cython.pointer[uint8_t] = place + (16 if cut.kind == TCP_SEGMENTS else 6)
        sum: uint64_t
        if cut.kind == TCP_SEGMENTS:
            put32(place + 4, cut.sequence + cut.done)
            if not last:
                place[13] &= 0xF6  # neither FIN nor PSH
            if cut.index > 0:
                place[13] &= 0x7F  # nor CWR
        else:
            put16(place + 4, length)
        put16(check, 0)
        sum = self.pseudo(head, length)
        sum = sum_words(place, cut.headers - cut.transport, sum)
        sum = sum_words(data + (self.length - cut.payload) + cut.done, size, sum)
        store_sum(check, sum)

    def pseudo(self, head, length):
        """The sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1)."""
        word: uint8_t[4]
        ip: cython.pointer[uint8_t] = head + self.cut.network
        put16(word, self.cut.protocol)
        put16(word + 2, length)
        if self.cut.six:
            return sum_words(ip + 8, 32, sum_words(word, 4, 0))
        return sum_words(ip + 12, 8, sum_words(word, 4, 0))
