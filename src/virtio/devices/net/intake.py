"""One receive ring of a NIC, into which any thread puts frames.

Whoever has frames copies them into the driver's buffers itself, a burst under one lock: nothing is handed
from thread to thread, and nothing is copied twice. The lock is held for the copying and for a write to the
call eventfd, neither of which waits, and never with the GIL being asked for.

Buffers are taken from the ring before they are needed and wait in the stash, so that their cache lines have
come from the driver's processor when they are written; when the ring is paused they go back to it.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy, memmove, memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.device.worker import BATCH, signal_fd
from cython.cimports.virtio.devices.net.joiner import Joiner
from cython.cimports.virtio.devices.net.terms import (
    FULL,
    GIANT,
    OFFLOAD,
    PLAIN_HEADER,
    RUNT,
    SHORTEST_FRAME,
    Spot,
    WireHeader,
    copy_on,
    count_drops,
    make_header,
    settle,
    swap_u16,
    swap_u32,
    tally,
    too_long,
)
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.atomic import prefetch
from cython.cimports.virtio.memory.table import memory_gone
from cython.cimports.virtio.network.frame import BURST, GSO_NONE, Frame
from cython.cimports.virtio.network.offload import Finisher, finished
from cython.cimports.virtio.virtqueue.queue import RING_MEMORY_GONE, Chain, DeviceQueue

__all__ = ["Intake"]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def put_plain(copy: cython.pointer[Copy], last_word: uint32_t) -> cython.void:
    """Write a header of zeroes but for ``last_word``, and the frame behind it."""
    memset(copy.target, 0, 8)
    memcpy(copy.target + 8, cython.address(last_word), 4)
    memcpy(copy.target + PLAIN_HEADER, copy.source, copy.length)


class Intake:
    """One receive ring and its lock."""

    def __cinit__(self):
        pthread_mutex_init(cython.address(self.lock), cython.NULL)
        self.call_fd = self.wake_fd = -1

    def __init__(self) -> None:
        self.finisher = Finisher()

    def __dealloc__(self):
        free(self.stash)
        pthread_mutex_destroy(cython.address(self.lock))

    def serve(self, queue: DeviceQueue, call_fd: int, wake_fd: int, bells: bool) -> None:
        """Say what ring to fill and whom to tell, while it is shut. MemoryError if there is none left."""
        capacity: cython.int = queue.size + BATCH
        stash = cython.cast(
            cython.pointer[cython.pointer[Chain]],
            realloc(self.stash, capacity * cython.sizeof(cython.pointer[Chain])),
        )
        if stash == cython.NULL:
            raise MemoryError
        self.stash = stash
        self.capacity = capacity
        self.queue = queue
        self.call_fd = call_fd
        self.wake_fd = wake_fd
        self.bells = bells
        self.joiner = Joiner() if self.terms.joins else None

    def stats(self) -> dict[str, int]:
        """What a queue's worker counts elsewhere: the deliveries, by whatever thread."""
        return {
            "requests": self.requests,
            "batches": self.bursts,
            "notifications": self.notifications,
            "suppressed": self.suppressed,
        }

    # For any thread.

    def deliver(self, frames, count, hashes, reports):
        done: cython.int = 0
        used: cython.int
        result: cython.int
        takes: cython.int
        full: cython.bint = False
        hash: uint32_t = 0
        report: uint16_t = 0
        pthread_mutex_lock(cython.address(self.lock))
        takes = atomic.load_int(cython.address(self.terms.takes), atomic.RELAXED)
        if self.end - self.first < count + AHEAD:
            self.refill(BATCH)
        while done < count and self.opened:
            if self.joiner is None:
                done += self.place_run(frames + done, count - done)
                if done == count:
                    break
            if hashes != cython.NULL:
                hash = hashes[done]
                report = reports[done]
            used = 1
            if frames[done].length < SHORTEST_FRAME:
                count_drops(self.counters, RUNT, 1)
            elif too_long(self.terms, cython.address(frames[done])):
                count_drops(self.counters, GIANT, 1)
            else:
                if not finished(cython.address(frames[done].header), takes, cython.address(frames[done])):
                    result = self.finish(cython.address(frames[done]), hash, report)
                elif self.joiner is None:
                    result = self.place(cython.address(frames[done]), takes, hash, report, count - done)
                else:
                    result = self.place_joined(
                        frames + done, count - done, takes, hash, report, cython.address(used)
                    )
                if result == NO_ROOM:
                    self.starved = full = True
                    break
            done += used
        self.flush(full)
        pthread_mutex_unlock(cython.address(self.lock))
        return done

    # For the worker.

    def open(self):
        pthread_mutex_lock(cython.address(self.lock))
        self.queue.disable_notifications()
        self.starved = False
        self.opened = True
        pthread_mutex_unlock(cython.address(self.lock))

    def shut(self):
        """Nobody touches the ring any more when this returns, and what was taken of it is back."""
        pthread_mutex_lock(cython.address(self.lock))
        self.opened = False
        if self.end > self.first:
            self.queue.put_back(self.stash + self.first, self.end - self.first)
        self.filled = self.first = self.end = 0
        self.stashed_slots = 0
        if self.delay is not None and self.delay.end():
            self.notify()
        pthread_mutex_unlock(cython.address(self.lock))

    def ask_for_room(self):
        some: cython.bint = True
        pthread_mutex_lock(cython.address(self.lock))
        if self.opened and self.starved:
            some = self.queue.enable_notifications()
            if some:
                self.queue.disable_notifications()
                self.starved = False
        pthread_mutex_unlock(cython.address(self.lock))
        return some

    def want_no_kicks(self):
        pthread_mutex_lock(cython.address(self.lock))
        if self.opened:
            self.queue.disable_notifications()
            self.starved = False
        pthread_mutex_unlock(cython.address(self.lock))

    def end_delay(self):
        pthread_mutex_lock(cython.address(self.lock))
        if self.delay is not None and self.delay.due(self.packets):
            self.notify()
        pthread_mutex_unlock(cython.address(self.lock))

    # Under the lock.

    def place_run(self, frames, count):
        """Put in all frames up to the first that is not of one piece, or for one buffer. Their number.

        All is looked up and counted first, then all is copied. A processor's stores leave it in order, and
        these are into cache lines of the driver's processor: it waits for as many of those at the same time
        as its queue of stores reaches ahead, which is not far if other stores stand in between.
        """
        copies = cython.declare(Copy[BURST])
        frame: cython.pointer[cython.const[Frame]]
        chain: cython.pointer[Chain]
        first: cython.int = self.first
        end: cython.int
        i: cython.int
        run: cython.int = 0
        slots: uint32_t = 0
        bytes: uint64_t = 0
        length: uint32_t
        header: uint32_t = self.terms.header
        if header != PLAIN_HEADER:
            return 0
        end = min(self.end, first + min(count, BURST))
        while first + run < end:
            frame = frames + run
            length = frame.length
            chain = self.stash[first + run]
            if (
                frame.count != 1
                or frame.header.flags != 0
                or frame.header.gso_type != GSO_NONE
                or length < SHORTEST_FRAME
                or too_long(self.terms, frame)
                or chain.writable == 0
                or chain.segments[chain.readable].iov_len < length + header
            ):
                break
            copies[run].target = cython.cast(cython.p_char, chain.segments[chain.readable].iov_base)
            copies[run].source = cython.cast(cython.p_char, frame.segments[0].iov_base)
            copies[run].length = length
            prefetch(copies[run].source)
            chain.written = length + header
            slots += chain.slots
            bytes += length
            run += 1
        for i in range(run):
            put_plain(cython.address(copies[i]), self.terms.last_word)
        self.first = first + run
        self.stashed_slots -= slots
        self.requests += run
        self.sum.frames += run
        self.sum.bytes += bytes
        return run

    def place(self, frame, takes, hash, report, ahead):
        """Put one frame into one buffer; where it is not as simple as that, `spread` it."""
        wire: WireHeader
        chain: cython.pointer[Chain]
        target: cython.p_char
        length: uint32_t = frame.length
        header: uint32_t = self.terms.header
        if self.first == self.end and not self.refill(ahead):
            return NO_ROOM
        chain = self.stash[self.first]
        if frame.count != 1 or chain.writable == 0:
            return self.spread(frame, takes, hash, report)
        if chain.segments[chain.readable].iov_len < length + header:
            return self.spread(frame, takes, hash, report)
        target = cython.cast(cython.p_char, chain.segments[chain.readable].iov_base)
        make_header(cython.address(wire), self.terms, takes, frame, 1)
        self.add_hash(cython.address(wire), hash, report)
        memcpy(target, cython.address(wire), header)
        memcpy(target + header, frame.segments[0].iov_base, length)
        self.give_next(length + header)
        tally(cython.address(self.sum), frame)
        return PLACED

    def place_joined(self, frames, count, takes, hash, report, used):
        """Put in the first of these, with as many as can be joined to it, and say how many."""
        frame: cython.pointer[Frame] = cython.address(self.joiner.frame)
        result: cython.int
        used[0] = self.joiner.join(frames, count, takes)
        if used[0] == 0:
            used[0] = 1
            count_drops(self.counters, OFFLOAD, 1)
            return DROPPED
        result = self.place(frame, takes, hash, report, count)
        if result == PLACED and used[0] > 1:
            self.sum.joined += 1
            self.sum.joined_bytes += frame.length
        return result

    def add_hash(self, wire, hash, report):
        wire.hash_value = swap_u32(hash) if self.terms.swap else hash
        wire.hash_report = swap_u16(report) if self.terms.swap else report

    def spread(self, frame, takes, hash, report):
        """Put one frame into as many buffers as it takes, cut as the driver likes."""
        wire: WireHeader
        head: iovec
        header: Spot
        body: Spot
        target: Spot
        chain: cython.pointer[Chain]
        left: uint64_t = frame.length + self.terms.header
        of_header: uint64_t = self.terms.header
        part: uint64_t
        run: uint64_t
        buffers: cython.int = self.gather(left)
        if buffers == 0:
            return NO_ROOM
        if buffers < 0:
            count_drops(self.counters, GIANT, 1)
            return DROPPED
        make_header(cython.address(wire), self.terms, takes, frame, buffers)
        self.add_hash(cython.address(wire), hash, report)
        head.iov_base = cython.address(wire)
        head.iov_len = cython.sizeof(WireHeader)
        header.segment = cython.address(head)
        body.segment = frame.segments
        header.offset = body.offset = 0
        while buffers > 0:
            chain = self.stash[self.first]
            target.segment = chain.segments + chain.readable
            target.offset = 0
            run = min(chain.writable_length, left)
            part = min(run, of_header)
            copy_on(cython.address(target), cython.address(header), part)
            copy_on(cython.address(target), cython.address(body), run - part)
            of_header -= part
            left -= run
            buffers -= 1
            self.give_next(cython.cast(uint32_t, run))
        tally(cython.address(self.sum), frame)
        return PLACED

    def gather(self, needed):
        """How many of the next buffers hold so many bytes: 0 if there are not enough yet, -1 if never."""
        total: uint64_t = 0
        buffers: cython.int = 0
        while True:
            if self.first + buffers == self.end and not self.refill(
                1 + cython.cast(cython.int, needed >> 11)
            ):
                # All that the ring can hold is here, and it is too little.
                return -1 if buffers > 0 and self.stashed_slots >= self.queue.size else 0
            total += self.stash[self.first + buffers].writable_length
            buffers += 1
            if total >= needed:
                return buffers
            if not self.terms.mergeable:
                if total >= cython.cast(uint64_t, self.terms.header):
                    return -1
                # No buffer at all: it goes back as it came.
                self.give_next(0)
                total = 0
                buffers = 0

    def finish(self, frame, hash, report):
        """Put a frame in whose checksum, or whose segments, the driver wants done for it."""
        piece: Frame
        result: cython.int
        any: cython.bint = False
        self.finisher.recycle()
        if self.finisher.begin(frame) < 0:
            count_drops(self.counters, OFFLOAD, 1)
            return DROPPED
        while self.finisher.more():
            self.finisher.recycle()
            while self.finisher.next(cython.address(piece)):
                if too_long(self.terms, cython.address(piece)):
                    self.finisher.abandon()
                    count_drops(self.counters, GIANT, 1)
                    return DROPPED
                result = self.place(cython.address(piece), 0, hash, report, BURST)
                if result == NO_ROOM:
                    self.finisher.abandon()
                    if not any:
                        return NO_ROOM
                    count_drops(self.counters, FULL, 1)
                    return DROPPED
                any = True
        return PLACED

    def refill(self, wanted):
        """Take more buffers from the ring. False if there are none."""
        count: cython.int
        i: cython.int
        if not self.opened:
            return False
        if self.filled == self.end:
            self.filled = self.first = self.end = 0
        elif self.capacity - self.end < BATCH:
            memmove(
                self.stash,
                self.stash + self.filled,
                (self.end - self.filled) * cython.sizeof(cython.pointer[Chain]),
            )
            self.end -= self.filled
            self.first -= self.filled
            self.filled = 0
        count = self.queue.take(self.stash + self.end, min(wanted, BATCH, self.capacity - self.end))
        if count < 0:
            self.fail(count)
        for i in range(count):
            self.stashed_slots += self.stash[self.end + i].slots
        if count > 0:
            self.end += count
        return count > 0

    def give_next(self, written):
        chain: cython.pointer[Chain] = self.stash[self.first]
        self.first += 1
        self.stashed_slots -= chain.slots
        self.requests += 1
        chain.written = written

    def flush(self, full):
        """Show the driver what it was given, and tell it if it wants to be told; at once if ``full``.

        Only here is the ring written: the frames' bytes and the ring's lines come from the driver's processor
        at the same time, instead of by turns.
        """
        first: uint64_t = self.packets
        self.packets += self.sum.frames
        if self.filled != self.first:
            self.give_all(first, full)
        elif full and self.delay is not None and self.delay.end():
            self.notify()
        settle(self.counters, cython.address(self.sum))  # atomic, so only when the driver has seen the ring

    def give_all(self, first, full):
        """Give back what holds frames, the first of them the ring's ``first``th."""
        self.queue.give_row(self.stash + self.filled, self.first - self.filled)
        self.filled = self.first
        self.bursts += 1
        if memory_gone(self.queue.table):
            self.fail(RING_MEMORY_GONE)
        elif not self.queue.publish() and (self.delay is None or not self.delay.waiting):
            self.suppressed += 1
        elif self.delay is None or not self.holds(first, full):
            self.notify()

    def holds(self, first, full):
        """Let the notification wait, unless the ring is full: then nothing comes before the driver acts."""
        if full:
            self.delay.end()
            return False
        return self.delay.holds(first, self.packets)

    def notify(self):
        self.notifications += 1
        if self.call_fd >= 0:
            signal_fd(self.call_fd)
        elif self.bells:
            atomic.store_int(cython.address(self.bell), 1, atomic.SEQ_CST)
            signal_fd(self.wake_fd)

    def fail(self, fault):
        """The ring cannot be used: the worker is to say so."""
        self.opened = False
        atomic.store_int(cython.address(self.fault), fault, atomic.SEQ_CST)
        signal_fd(self.wake_fd)
