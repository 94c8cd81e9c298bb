"""From a burst that came in at a port to bursts that leave by others.

A frame is copied once, by the receiver, from the sender's memory, on the sender's thread. Nothing is locked
meanwhile: ports stand in a snapshot that is never changed but replaced. `forward` always takes all frames:
those for which a receiver has no room are dropped and counted there, as no sender may be held up by one slow
receiver.

Frames of a sender's queue leave in their order: for each port, a burst's frames stay a sub-burst in order,
whether they go to it alone or to all.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.posix.time import CLOCK_MONOTONIC_COARSE
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.clock import SECOND, read_clock
from cython.cimports.virtio.network.frame import BURST, Frame
from cython.cimports.virtio.network.link import Sink
from cython.cimports.virtio.network.switch.fdb import (
    FULL,
    KNOWN,
    MOVED,
    NEW,
    NOWHERE,
    Fdb,
    Learned,
    key_of,
    port_of,
)
from cython.cimports.virtio.network.switch.grace import SLOTS, Slot, enter, leave, wait_for_readers
from cython.cimports.virtio.network.switch.vlan import (
    Rules,
    enter_vlan,
    is_group,
    is_reserved,
    leaves,
    read_head,
    rewrite,
    write_head,
)
from cython.cimports.virtio.storage.linux import posix_memalign

__all__ = ["Forwarder"]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def count_up(counters: cython.pointer[uint64_t], which: cython.int, by: uint64_t) -> cython.void:
    if by != 0:
        atomic.add_u64(counters + which, by, atomic.RELAXED)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def bytes_of(frames: cython.pointer[cython.const[Frame]], count: cython.int) -> uint64_t:
    i: cython.int
    total: uint64_t = 0
    for i in range(count):
        total += frames[i].length
    return total


class Forwarder:
    """Forwards between the ports of its snapshot."""

    def __cinit__(self) -> None:
        memory: cython.p_void = cython.NULL
        if posix_memalign(cython.address(memory), 64, SLOTS * cython.sizeof(Slot)) != 0:
            raise MemoryError
        memset(memory, 0, SLOTS * cython.sizeof(Slot))
        self.grace.slots = cython.cast(cython.pointer[Slot], memory)
        self.frozen = -1

    def __init__(self, fdb: Fdb, forward_reserved: bool) -> None:
        self.fdb = fdb
        self.forward_reserved = forward_reserved

    def __dealloc__(self) -> None:
        free(self.snapshot)
        free(self.grace.slots)

    def inside(self):
        return depth > 0

    def use(self, snapshot):
        old: cython.p_void = self.snapshot
        atomic.store_pointer(cython.address(self.snapshot), snapshot, atomic.SEQ_CST)
        wait_for_readers(cython.address(self.grace))
        free(old)

    def now(self):
        if self.frozen >= 0:
            return self.frozen
        return read_clock(CLOCK_MONOTONIC_COARSE) // SECOND

    def forward(self, owner, port, queue, frames, count):
        """Forward what came in at `port`; returns `count`."""
        global depth
        inside: cython.p_int
        done: cython.int = 0
        burst = cython.declare(Burst)
        if count <= 0:
            return 0
        inside = enter(cython.address(self.grace))
        burst.snapshot = cython.cast(
            cython.pointer[Snapshot], atomic.load_pointer(cython.address(self.snapshot), atomic.SEQ_CST)
        )
        if port < 0 or port >= burst.snapshot.limit or burst.snapshot.members[port].owner != owner:
            leave(inside)
            return count  # it was closed
        burst.source = cython.address(burst.snapshot.members[port])
        burst.port = port
        burst.queue = queue
        burst.now = self.now()
        memset(burst.tally, 0, cython.sizeof(burst.tally))
        burst.tally[IN_FRAMES] = count
        burst.tally[IN_BYTES] = bytes_of(frames, count)
        if depth >= DEEPEST:
            burst.tally[DROPPED_LOOP] = count
            done = count
        depth += 1
        while done < count:
            burst.frames = frames + done
            burst.count = min(count - done, BURST)
            self.burst(cython.address(burst))
            done += burst.count
        depth -= 1
        for done in range(INCOMING):
            count_up(burst.source.counters, done, burst.tally[done])
        leave(inside)
        return count

    def burst(self, burst):
        """Forward up to BURST frames."""
        if burst.source.monitor:
            burst.tally[DROPPED_MONITOR] += burst.count
            return
        if burst.source.watched:
            self.mirror(burst, burst.port, burst.frames, burst.count)
        self.judge(burst)
        self.distribute(burst)

    def judge(self, burst):
        """Say for each frame where it goes, and learn where it came from."""
        i: cython.int
        verdict: cython.pointer[Verdict]
        learned: uint64_t = 0  # what the frame before was about: most often this one is, too
        asked: uint64_t = 0
        answer: cython.int = NO_PORT
        key: uint64_t
        for i in range(burst.count):
            verdict = cython.address(burst.verdicts[i])
            verdict.target = NO_PORT
            if i + 1 < burst.count:
                atomic.prefetch(burst.frames[i + 1].segments[0].iov_base)
            if not read_head(cython.address(burst.frames[i]), cython.address(verdict.head)):
                burst.tally[DROPPED_INVALID] += 1
                continue
            if not self.admit(burst, cython.address(verdict.head), cython.address(verdict.found)):
                continue
            key = key_of(verdict.head.by, verdict.found.vlan)
            if key != learned:
                if self.learn(burst, key):
                    asked = 0
                learned = key
            key = key_of(verdict.head.to, verdict.found.vlan)
            if key != asked:
                answer = self.target(burst, cython.address(verdict.head), verdict.found.vlan)
                asked = key
            verdict.target = answer
            if answer >= 0:
                if answer == burst.port:
                    burst.tally[DROPPED_LOCAL] += 1
                    verdict.target = NO_PORT
                elif burst.source.isolated and burst.snapshot.members[answer].isolated:
                    burst.tally[DROPPED_ISOLATED] += 1
                    verdict.target = NO_PORT
            elif self.may_flood(burst):
                burst.tally[FLOODED] += 1
            else:
                burst.tally[DROPPED_STORM] += 1
                verdict.target = NO_PORT

    def admit(self, burst, head, found):
        """Whether a frame may come in; what is wrong is counted."""
        if is_group(head.by) or head.by == 0:
            burst.tally[DROPPED_INVALID] += 1  # no station has such an address
            return False
        if is_reserved(head.to) and not self.forward_reserved:
            burst.tally[DROPPED_RESERVED] += 1
            return False
        if not enter_vlan(cython.address(burst.source.rules), head, found):
            burst.tally[DROPPED_VLAN] += 1
            return False
        return True

    def learn(self, burst, key):
        outcome: Learned = self.fdb.learn(key, burst.port, burst.now)
        if outcome == KNOWN:
            return False
        if outcome == NEW:
            burst.tally[LEARNED] += 1
        elif outcome == MOVED:
            burst.tally[MOVED_HERE] += 1
        elif outcome == FULL:
            burst.tally[UNLEARNED] += 1
        return True

    def target(self, burst, head, vlan):
        """The port of the receiver, FLOOD for a group or one that is not known."""
        found: cython.int
        if is_group(head.to):
            return FLOOD
        found = port_of(cython.address(self.fdb.table), key_of(head.to, vlan), burst.now)
        if found == NOWHERE or found >= burst.snapshot.limit:
            return FLOOD
        if burst.snapshot.members[found].owner == cython.NULL or burst.snapshot.members[found].monitor:
            return FLOOD
        return found

    def may_flood(self, burst):
        """Count a frame against the source's limit for this second."""
        counters: cython.pointer[uint64_t] = burst.source.counters
        if burst.source.storm == 0:
            return True
        if atomic.load_u64(counters + STORM_SECOND, atomic.RELAXED) != burst.now:
            atomic.store_u64(counters + STORM_SECOND, burst.now, atomic.RELAXED)
            atomic.store_u64(counters + STORM_FRAMES, 0, atomic.RELAXED)
        return atomic.add_u64(counters + STORM_FRAMES, 1, atomic.RELAXED) < burst.source.storm

    def distribute(self, burst):
        """Send each frame where it belongs, one port after the other."""
        i: cython.int
        j: cython.int
        first: cython.int = burst.verdicts[0].target
        uniform: cython.bint = first != NO_PORT and burst.source.rules.plain
        flooded: cython.bint = False
        for i in range(burst.count):
            flooded |= burst.verdicts[i].target == FLOOD
            uniform &= burst.verdicts[i].target == first and not burst.verdicts[i].found.opaque
        if flooded:
            for i in range(burst.snapshot.limit):
                if i == burst.port:
                    continue
                if uniform and burst.snapshot.members[i].rules.plain:
                    self.flood_all(burst, i)
                else:
                    self.deliver(burst, i)
            return
        if uniform and burst.snapshot.members[first].rules.plain:
            self.hand(burst, first, burst.frames, burst.count)
            return
        for i in range(burst.count):
            first = burst.verdicts[i].target
            if first >= 0:
                self.deliver(burst, first)
                for j in range(i, burst.count):
                    if burst.verdicts[j].target == first:
                        burst.verdicts[j].target = NO_PORT

    def flood_all(self, burst, egress):
        """Send the burst as it is to one of those that get all of it."""
        member: cython.pointer[Member] = cython.address(burst.snapshot.members[egress])
        if member.owner == cython.NULL or member.sink == cython.NULL or member.monitor:
            return
        if not (burst.source.isolated and member.isolated):
            self.hand(burst, egress, burst.frames, burst.count)

    def deliver(self, burst, egress):
        """Send to one port what of the burst is for it."""
        out = cython.declare(Outgoing)
        member: cython.pointer[Member] = cython.address(burst.snapshot.members[egress])
        i: cython.int
        target: cython.int
        barred: cython.bint = burst.source.isolated and member.isolated
        if member.owner == cython.NULL or member.monitor:
            return
        out.count = 0
        out.used = 0
        for i in range(burst.count):
            target = burst.verdicts[i].target
            if target != egress and (target != FLOOD or barred or member.sink == cython.NULL):
                continue
            if leaves(
                cython.address(member.rules),
                cython.address(burst.verdicts[i].head),
                cython.address(burst.verdicts[i].found),
            ):
                self.collect(burst, egress, i, cython.address(out))
            elif target == egress:
                burst.tally[DROPPED_VLAN] += 1
        if out.count:
            self.hand(burst, egress, out.frames, out.count)

    def collect(self, burst, egress, index, out):
        """Add a frame to what goes to a port, with the header it leaves with."""
        frame: cython.pointer[cython.const[Frame]] = burst.frames + index
        verdict: cython.pointer[Verdict] = cython.address(burst.verdicts[index])
        rules: cython.pointer[Rules] = cython.address(burst.snapshot.members[egress].rules)
        segments: cython.pointer[iovec]
        length: cython.int
        if burst.source.rules.plain and rules.plain:
            out.frames[out.count] = frame[0]
            out.count += 1
            return
        if frame.count >= SCRATCH:
            burst.tally[DROPPED_INVALID] += 1
            return
        if out.used + frame.count + 1 > SCRATCH:
            self.hand(burst, egress, out.frames, out.count)
            out.count = 0
            out.used = 0
        segments = out.segments + out.used
        length = write_head(
            rules,
            cython.address(verdict.head),
            cython.address(verdict.found),
            cython.address(out.heads[out.count][0]),
        )
        segments[0].iov_base = cython.address(out.heads[out.count][0])
        segments[0].iov_len = length
        if not rewrite(
            frame, cython.address(verdict.head), length, segments, cython.address(out.frames[out.count])
        ):
            burst.tally[DROPPED_INVALID] += 1
            return
        out.used += out.frames[out.count].count
        out.count += 1

    def hand(self, burst, egress, frames, count):
        """Give frames to the one who is connected to a port."""
        member: cython.pointer[Member] = cython.address(burst.snapshot.members[egress])
        taken: cython.int
        if member.sink == cython.NULL:
            count_up(member.counters, DROPPED_DOWN, count)
            return
        taken = max(0, cython.cast(Sink, member.sink).put(burst.queue, frames, count))
        count_up(member.counters, OUT_FRAMES, taken)
        count_up(member.counters, OUT_BYTES, bytes_of(frames, taken))
        count_up(member.counters, DROPPED_FULL, count - taken)
        if member.monitor:
            count_up(member.counters, MIRRORED, taken)
        elif member.watched:
            self.mirror(burst, egress, frames, taken)

    def mirror(self, burst, port, frames, count):
        """Give copies to the monitors of a port; of frames between two of theirs, only as they came in."""
        i: cython.int
        monitor: cython.pointer[Member]
        if count == 0:
            return
        for i in range(burst.snapshot.limit):
            monitor = cython.address(burst.snapshot.members[i])
            if not monitor.monitor or not (monitor.watches[port >> 6] >> (port & 63)) & 1:
                continue
            if port == burst.port or not (monitor.watches[burst.port >> 6] >> (burst.port & 63)) & 1:
                self.hand(burst, i, frames, count)
