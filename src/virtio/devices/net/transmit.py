"""The worker of a transmit queue: frames go to the link where they lie, in the driver's memory.

A batch of chains becomes a burst of frames, which the link has taken, or not, before the chains go back. What
the link does not finish itself is finished here. A frame that cannot be is dropped and counted; the driver
gets its buffer back all the same. Answers are fetched from a link that has a file descriptor (`lead`).
"""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import EAGAIN
from cython.cimports.libc.stdint import int64_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.device.worker import QueueWorker, now
from cython.cimports.virtio.devices.net.lead import take_lead
from cython.cimports.virtio.devices.net.moderation import Delay
from cython.cimports.virtio.devices.net.nic import Nic
from cython.cimports.virtio.devices.net.terms import (
    DOWN,
    FULL,
    GIANT,
    HEADER,
    OFFLOAD,
    PLAIN_HEADER,
    RUNT,
    SHORTEST_FRAME,
    Spot,
    WireHeader,
    copy_on,
    count_drops,
    settle_sent,
    swap_header,
    tally,
    too_long,
)
from cython.cimports.virtio.memory import atomic
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
from cython.cimports.virtio.network.offload import TAKES_CSUM, Finisher, finished, wanted_by

from virtio.network.offload import takes_of
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Transmitter"]


class Transmitter(QueueWorker):
    """Serves the transmit queue of pair number ``pair``; with a ``delay`` its notifications may wait."""

    def __init__(self, queue: DeviceQueue, nic: Nic, pair: int, delay: Delay | None = None) -> None:
        QueueWorker.__init__(self, queue)
        self.nic = nic
        self.link = nic.link
        self.pair = pair
        self.link_fd = nic.link.receive_fd(pair)
        self.accepts = takes_of(nic.link.accepts, host=True)
        self.counters = cython.address(nic.sent[self.pair])
        self.finisher = Finisher()
        self.delay = delay
        if delay is not None:
            self.completion_fd = delay.timer_fd

    def process(self, chains, count):
        done: cython.int = 0
        given: cython.int = 0
        run: cython.int
        self.first = self.requests - count
        self.part = 0
        while done < count:
            if self.ready == BURST:
                self.hand_on()
            run = self.read_run(chains + done, count - done)
            if run == 0:
                self.read_one(chains[done])
                run = 1
            done += run
            if self.part >= PART_BYTES and done < count:
                self.part = 0
                self.hand_on()
                self.queue.give_row(chains + given, done - given)
                given = done
                self.publish_part()
        self.hand_on()
        self.queue.give_row(chains + given, count - given)
        settle_sent(self.counters, cython.address(self.sum))
        if self.source_fd < 0 and self.link_fd >= 0 and take_lead(cython.address(self.nic.leads[self.pair])):
            self.source_fd = self.link_fd

    # Answers to what was sent (see `lead`).

    def read_link(self):
        """Fetch what has come, until nothing is left or it is the receiver's to go on."""
        moved: cython.int
        total: cython.int = 0
        while total < BURST:
            moved = self.link.receive(self.pair, BURST)
            if moved == 0 or moved == -EAGAIN:
                return
            if moved < 0:
                break
            total += moved
        self.give_back()

    def give_back(self):
        """Leave the link to the receiver."""
        if self.source_fd >= 0:
            self.source_fd = -1
            self.nic.give_back(self.pair)

    def halt(self, reason):
        """Serve no more."""
        self.give_back()
        QueueWorker.halt(self, reason)

    # Notifications that may wait (Notifications Coalescing).

    def notify(self):
        if self.delay is None or not self.delay.holds(self.first, self.requests):
            QueueWorker.notify(self)

    def harvest(self):
        """Nothing is in flight, but a notification may be due and answers may have come."""
        if self.delay is not None and self.delay.due(self.requests):
            self.tell()
        if self.source_fd >= 0:
            self.read_link()
        return 0

    def spin(self):
        """Not beyond the end of a wait, as far as it is known."""
        window: int64_t = self.window_ns
        paid: cython.bint
        if self.delay is None or not self.delay.waiting:
            return QueueWorker.spin(self)
        self.window_ns = max(0, min(window, self.delay.alarm - now()))
        paid = QueueWorker.spin(self)
        self.window_ns = window
        return paid

    def drain(self):
        """What the driver was not told yet it is told before the queue stops."""
        self.give_back()
        QueueWorker.drain(self)
        if self.delay is not None and self.delay.end():
            self.tell()

    def tell(self):
        """Notify the driver, unless the ring is no longer ours."""
        if atomic.load_int(cython.address(self.abandoned), atomic.ACQUIRE) == 0:
            QueueWorker.notify(self)

    # Frames.

    def read_run(self, chains, count):
        """Make frames of the chains up to the first not in one piece or with work to do. Their number.

        What is left are small steps over lines that are on their way already, many of them at a time.
        """
        chain: cython.pointer[Chain]
        frame: cython.pointer[Frame] = self.frames + self.ready
        piece: cython.pointer[iovec]
        most: cython.int = min(count, BURST - self.ready)
        longest: uint64_t = atomic.load_u32(cython.address(self.nic.terms.longest), atomic.RELAXED)
        part: uint64_t = self.part
        todo: uint16_t  # flags and GSO type, as the header begins
        run: cython.int = 0
        if self.nic.terms.header != PLAIN_HEADER:
            return 0
        while run < most and part < PART_BYTES:
            chain = chains[run]
            piece = chain.segments
            if (
                chain.readable != 1
                or piece.iov_len < PLAIN_HEADER + SHORTEST_FRAME
                or piece.iov_len > PLAIN_HEADER + longest
            ):
                break
            memcpy(cython.address(todo), piece.iov_base, 2)
            if todo != 0:
                break
            piece.iov_base = cython.cast(cython.p_char, piece.iov_base) + PLAIN_HEADER
            piece.iov_len -= PLAIN_HEADER
            frame.segments = piece
            frame.count = 1
            frame.length = cython.cast(uint32_t, piece.iov_len)
            memset(cython.address(frame.header), 0, cython.sizeof(NetHeader))
            part += frame.length
            frame += 1
            run += 1
        self.part = part
        self.ready += run
        self.sum.sent += run
        return run

    def read_one(self, chain):
        """Make whatever a chain holds ready, if it makes sense."""
        frame: cython.pointer[Frame] = cython.address(self.frames[self.ready])
        if not self.read(chain, frame):
            return
        self.part += frame.length
        self.sum.sent += 1
        self.sum.unsummed += frame.header.flags & NEEDS_CSUM
        if finished(cython.address(frame.header), self.accepts, frame):
            self.ready += 1
        else:
            self.finish(frame)

    def read(self, chain, frame):
        """Make a frame of a chain; False if it is dropped. The chain's first segment loses the header."""
        wire: WireHeader
        segments: cython.pointer[iovec] = chain.segments
        header: uint32_t = self.nic.terms.header
        skip: uint32_t = header
        first: uint32_t = 0
        source: Spot
        target: Spot
        place: iovec
        if chain.readable_length < header + SHORTEST_FRAME:
            count_drops(self.counters, RUNT, 1)
            return False
        if chain.readable_length > header + LONGEST_FRAME:
            count_drops(self.counters, GIANT, 1)
            return False
        if segments[0].iov_len >= header and header >= PLAIN_HEADER:
            memcpy(cython.address(wire), segments[0].iov_base, 12)  # as two moves, where the length is known
        else:
            place.iov_base = cython.address(wire)
            place.iov_len = cython.sizeof(WireHeader)
            source.segment = segments
            target.segment = cython.address(place)
            source.offset = target.offset = 0
            copy_on(cython.address(target), cython.address(source), 12 if header >= 12 else 10)
        while skip >= segments[first].iov_len:
            skip -= cython.cast(uint32_t, segments[first].iov_len)
            first += 1
        segments[first].iov_base = cython.cast(cython.p_char, segments[first].iov_base) + skip
        segments[first].iov_len -= skip
        frame.segments = segments + first
        frame.count = chain.readable - first
        frame.length = cython.cast(uint32_t, chain.readable_length) - header
        if not self.understand(cython.address(wire), frame):
            count_drops(self.counters, HEADER, 1)
            return False
        if too_long(cython.address(self.nic.terms), frame):
            count_drops(self.counters, GIANT, 1)
            return False
        return True

    def understand(self, wire, frame):
        """Take over what the driver says of the frame; False if it makes no sense or was not negotiated."""
        header: cython.pointer[NetHeader] = cython.address(frame.header)
        kind: cython.int = wire.gso_type & ~GSO_ECN
        sends: cython.int = self.nic.terms.sends
        wanted: cython.int
        memset(header, 0, cython.sizeof(NetHeader))
        if not wire.flags & NEEDS_CSUM:
            # A segment's checksum can only be left to us (virtio 1.4, Packet Transmission).
            return wire.gso_type == GSO_NONE
        if self.nic.terms.swap:
            swap_header(wire)
        if not sends & TAKES_CSUM:
            return False
        if cython.cast(uint32_t, wire.csum_start) + wire.csum_offset + 2 > frame.length:
            return False
        header.flags = NEEDS_CSUM
        header.csum_start = wire.csum_start
        header.csum_offset = wire.csum_offset
        if wire.gso_type == GSO_NONE:
            return True
        if kind not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4) or wire.gso_size == 0:
            return False
        if wire.gso_type & GSO_ECN and kind not in (GSO_TCPV4, GSO_TCPV6):
            return False
        header.gso_type = wire.gso_type
        header.gso_size = wire.gso_size
        # A hint, which no one may rely on: at least it does not point beyond the frame.
        header.hdr_len = cython.cast(cython.ushort, min(cython.cast(uint32_t, wire.hdr_len), frame.length))
        wanted = wanted_by(header, frame)
        return (sends & wanted) == wanted

    def finish(self, frame):
        """Make ready, and hand on, what an unfinished frame stands for."""
        whole: Frame = frame[0]
        cut: cython.bint = whole.header.gso_type != GSO_NONE
        if not self.finisher.room(whole.length):
            self.hand_on()
        if self.finisher.begin(cython.address(whole)) < 0:
            count_drops(self.counters, OFFLOAD, 1)
            return
        if cut:
            self.sum.cut += 1
            self.sum.cut_bytes += whole.length
        while self.finisher.more():
            if self.ready == BURST or not self.finisher.next(cython.address(self.frames[self.ready])):
                self.hand_on()
                continue
            if cut:
                self.sum.pieces += 1
                self.sum.piece_bytes += self.frames[self.ready].length
            self.ready += 1

    def hand_on(self):
        """Give the link what is ready. What it does not take is lost, as on any wire."""
        taken: cython.int
        i: cython.int
        if self.ready > 0:
            if not atomic.load_int(cython.address(self.nic.up), atomic.RELAXED):
                count_drops(self.counters, DOWN, self.ready)
            else:
                if atomic.load_int(cython.address(self.nic.learns), atomic.RELAXED):
                    self.nic.learn(self.pair, self.frames, self.ready)
                taken = self.link.put(self.pair, self.frames, self.ready)
                for i in range(taken):
                    tally(cython.address(self.sum), cython.address(self.frames[i]))
                if taken < self.ready:
                    count_drops(self.counters, FULL, self.ready - taken)
            self.ready = 0
        self.finisher.recycle()
