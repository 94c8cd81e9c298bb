"""Receive segment coalescing: TCP segments that come one after another become one frame for the driver.

A driver that negotiated RSC_EXT is told of how many segments a long frame consists (virtio 1.4, Processing of
Incoming Packets), so it loses nothing by it that TCP needs. Nothing waits for more to come: what one burst
brings side by side is joined, if the headers agree but for what goes on from one segment to the next, the
checksums are right, none is longer than the first, and only the last one is shorter or pushed. Anything
else, a duplicate ACK above all, goes to the driver in a frame of its own; so none are counted.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcmp, memcpy
from cython.cimports.virtio.devices.net.headers import TCP, Flow, read_flow
from cython.cimports.virtio.devices.net.terms import swap_u16
from cython.cimports.virtio.network.checksum import folded, get16, get32, put16, sum_words
from cython.cimports.virtio.network.frame import (
    BURST,
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    NEEDS_CSUM,
    RSC_INFO,
    Frame,
)
from cython.cimports.virtio.network.offload import TAKES_CSUM, TAKES_TSO4, TAKES_TSO6, copy_out

__all__ = ["Joiner"]


class Joiner:
    """Joins the segments of one TCP connection."""

    def join(self, frames, count, takes):
        used: cython.int = 1
        self.frame = frames[0]
        self.frame.header.flags &= NEEDS_CSUM | DATA_VALID
        if frames[0].header.gso_type != GSO_NONE:
            return self.explain()
        if count == 1 or not self.begin(frames, takes):
            return 1
        while used < count and used < BURST and self.add(frames + used, used):
            used += 1
        if used > 1:
            self.complete(used)
        return used

    def explain(self):
        """Say of how many segments a frame consists that somebody else joined, or never cut. 1, or 0."""
        kind: cython.int = self.frame.header.gso_type & ~GSO_ECN
        size: uint32_t = self.frame.header.gso_size
        if size == 0 or not read(cython.address(self.frame), cython.address(self.first)):
            return 0
        if kind != (GSO_TCPV6 if self.first.six else GSO_TCPV4) or self.first.payload == 0:
            return 0
        self.frame.header.flags |= RSC_INFO
        self.frame.header.csum_start = cython.cast(uint16_t, (self.first.payload + size - 1) // size)
        self.frame.header.csum_offset = 0
        return 1

    def begin(self, frame, takes):
        """Can others follow this one?"""
        first: cython.pointer[Segment] = cython.address(self.first)
        if not read(frame, first) or not plain(frame, first) or first.payload == 0:
            return False
        if first.head[first.transport + 13] != ACK:
            return False
        wanted: cython.int = TAKES_CSUM | (TAKES_TSO6 if first.six else TAKES_TSO4)
        if takes & wanted != wanted:
            return False
        self.count = 1
        self.payload = 0
        self.ended = False
        self.keep_payload(frame, first)
        return True

    def add(self, frame, number):
        """Join one more to those that there are, if it goes with them."""
        next: cython.pointer[Segment] = cython.address(self.next)
        if self.ended or not read(frame, next) or not plain(frame, next) or not self.follows(number):
            return False
        # Whether the first one's bytes are right is of interest only now.
        if not sound(frame, next) or (
            number == 1 and not sound(cython.address(self.frame), cython.address(self.first))
        ):
            return False
        self.keep_payload(frame, next)
        if next.head[next.transport + 13] & PSH:
            self.first.head[self.first.transport + 13] |= PSH
            self.ended = True
        elif next.payload < self.first.payload:
            self.ended = True
        return True

    def follows(self, number):
        """Do the next segment's headers go on from those that there are?"""
        first: cython.pointer[Segment] = cython.address(self.first)
        next: cython.pointer[Segment] = cython.address(self.next)
        a: cython.pointer[uint8_t] = first.head
        b: cython.pointer[uint8_t] = next.head
        if first.six != next.six or first.headers != next.headers or first.transport != next.transport:
            return False
        if (
            next.payload == 0
            or next.payload > first.payload
            or next.sequence != first.sequence + self.payload
        ):
            return False
        if first.headers - first.network + self.payload + next.payload > MOST_PACKET:
            return False
        if memcmp(a, b, first.network) != 0:
            return False
        a += first.network
        b += first.network
        if first.six:
            # Version, class and flow; next header and hop limit; addresses.
            if memcmp(a, b, 4) != 0 or memcmp(a + 6, b + 6, 34) != 0:
                return False
        else:
            # Version and class; flags; time to live and protocol; addresses.
            if memcmp(a, b, 2) != 0 or memcmp(a + 6, b + 6, 4) != 0 or memcmp(a + 12, b + 12, 8) != 0:
                return False
            # What may not be fragmented needs no number of its own (RFC 6864).
            if not a[6] & 0x40 and cython.cast(uint16_t, get16(a + 4) + number) != get16(b + 4):
                return False
        a += first.transport - first.network
        b += first.transport - first.network
        # Ports; acknowledgement and the header's length; window; options.
        if memcmp(a, b, 4) != 0 or memcmp(a + 8, b + 8, 5) != 0 or memcmp(a + 14, b + 14, 2) != 0:
            return False
        if memcmp(a + 20, b + 20, first.headers - first.transport - 20) != 0:
            return False
        return b[13] & ~PSH == ACK

    def keep_payload(self, frame, segment):
        """Have the payload where it lies be part of what is handed on."""
        i: cython.int
        skip: uint64_t = segment.headers
        for i in range(frame.count):
            if skip >= frame.segments[i].iov_len:
                skip -= frame.segments[i].iov_len
                continue
            self.parts[self.count].iov_base = cython.cast(cython.p_char, frame.segments[i].iov_base) + skip
            self.parts[self.count].iov_len = frame.segments[i].iov_len - skip
            self.count += 1
            skip = 0
        self.payload += segment.payload

    def complete(self, number):
        """Write the headers of the whole, with the sum of TCP's pseudo header in its checksum."""
        first: cython.pointer[Segment] = cython.address(self.first)
        ip: cython.pointer[uint8_t] = first.head + first.network
        length: uint32_t = first.headers - first.transport + self.payload
        check: uint16_t
        if first.six:
            put16(ip + 4, length)
        else:
            put16(ip + 2, first.transport - first.network + length)
            put16(ip + 10, 0)
            check = folded(sum_words(ip, 20, 0))
            memcpy(ip + 10, cython.address(check), 2)
        check = ~folded(pseudo(first, length))
        memcpy(first.head + first.transport + 16, cython.address(check), 2)
        self.parts[0].iov_base = first.head
        self.parts[0].iov_len = first.headers
        self.frame.segments = self.parts
        self.frame.count = self.count
        self.frame.length = first.headers + self.payload
        self.frame.header.flags = NEEDS_CSUM | RSC_INFO
        self.frame.header.gso_type = GSO_TCPV6 if first.six else GSO_TCPV4
        self.frame.header.hdr_len = cython.cast(uint16_t, first.headers)
        self.frame.header.gso_size = cython.cast(uint16_t, first.payload)
        self.frame.header.csum_start = number
        self.frame.header.csum_offset = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read(frame: cython.pointer[cython.const[Frame]], segment: cython.pointer[Segment]) -> cython.bint:
    """Read the headers of an IP packet with a TCP segment. False if it is none."""
    flow: Flow
    length: uint32_t = min(frame.length, HEAD)
    head: cython.pointer[uint8_t] = segment.head
    copy_out(frame, 0, cython.cast(cython.p_char, head), length)
    read_flow(head, length, cython.address(flow))
    if flow.payload == cython.NULL or flow.protocol != TCP or flow.left < 20:
        return False
    segment.six = flow.address_bytes == 16
    segment.network = cython.cast(uint32_t, flow.source - head) - (8 if segment.six else 12)
    segment.transport = cython.cast(uint32_t, flow.payload - head)
    segment.headers = segment.transport + (head[segment.transport + 12] >> 4) * 4
    if segment.headers < segment.transport + 20 or segment.headers > length:
        return False
    segment.payload = frame.length - segment.headers
    segment.sequence = get32(head + segment.transport + 4)
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def plain(
    frame: cython.pointer[cython.const[Frame]], segment: cython.pointer[cython.const[Segment]]
) -> cython.bint:
    """Is it one segment as a network carries it: no IP options, no padding, a right IP header?"""
    ip: cython.pointer[cython.const[uint8_t]] = segment.head + segment.network
    if frame.header.gso_type != GSO_NONE or frame.count > MOST_PIECES:
        return False
    if segment.six:
        return segment.transport == segment.network + 40 and get16(ip + 4) == frame.length - segment.transport
    return (
        segment.transport == segment.network + 20
        and get16(ip + 2) == frame.length - segment.network
        and get16(ip + 6) & 0x3FFF == 0
        and folded(sum_words(ip, 20, 0)) == 0
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def sound(
    frame: cython.pointer[cython.const[Frame]], segment: cython.pointer[cython.const[Segment]]
) -> cython.bint:
    """Is TCP's checksum right, or somebody's word that it is?"""
    i: cython.int
    skip: uint64_t = segment.headers
    sum: uint64_t
    part: uint16_t
    length: uint64_t
    odd: cython.bint = False
    if frame.header.flags & NEEDS_CSUM:
        return frame.header.csum_start == segment.transport and frame.header.csum_offset == 16
    if frame.header.flags & DATA_VALID:
        return True
    sum = pseudo(segment, segment.headers - segment.transport + segment.payload)
    sum = sum_words(segment.head + segment.transport, segment.headers - segment.transport, sum)
    for i in range(frame.count):
        if skip >= frame.segments[i].iov_len:
            skip -= frame.segments[i].iov_len
            continue
        length = frame.segments[i].iov_len - skip
        part = ~folded(
            sum_words(
                cython.cast(cython.pointer[uint8_t], frame.segments[i].iov_base) + skip,
                cython.cast(uint32_t, length),
                0,
            )
        )
        sum += swap_u16(part) if odd else part
        odd ^= length & 1
        skip = 0
    return folded(sum) == 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def pseudo(segment: cython.pointer[cython.const[Segment]], length: uint32_t) -> uint64_t:
    """The sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1)."""
    word: uint8_t[4]
    ip: cython.pointer[cython.const[uint8_t]] = segment.head + segment.network
    put16(word, TCP)
    put16(word + 2, length)
    if segment.six:
        return sum_words(ip + 8, 32, sum_words(word, 4, 0))
    return sum_words(ip + 12, 8, sum_words(word, 4, 0))
