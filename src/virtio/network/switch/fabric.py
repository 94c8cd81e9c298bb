"""The switch itself: a learning switch between any number of links, in one process.

A frame is copied once, by the receiver, from the sender's memory, on the sender's thread. Nothing is locked
meanwhile: ports stand in a snapshot that is never changed but replaced, and whoever replaces it waits until
no thread can still see the old one. `put` always takes all frames: those for which a receiver has no room are
dropped and counted there, as no sender may be held up by one slow receiver.

Frames of a sender's queue leave in their order: for each port, a burst's frames stay a sub-burst in order,
whether they go to it alone or to all.
"""

from __future__ import annotations

import threading

import cython
from cython.cimports.cpython.ref import PyObject
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memset
from cython.cimports.posix.time import CLOCK_MONOTONIC_COARSE, clock_gettime, timespec
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.frame import BURST, Frame
from cython.cimports.virtio.network.link import Link, Sink
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

from virtio.errors import NetworkError, NetworkUrlError, UsageError
from virtio.network.switch.settings import PortSettings
from virtio.spec import net

__all__ = ["COUNTERS", "EVERYTHING", "Port", "Switch"]

# ruff: noqa: D102, F821 -- the .pxd declares these names and says what its methods do

EVERYTHING = sum(
    1 << int(bit)
    for bit in (
        net.F_CSUM, net.F_HOST_TSO4, net.F_HOST_TSO6, net.F_HOST_ECN, net.F_HOST_UFO, net.F_HOST_USO,
    )
)  # fmt: skip
"""All offloads, as `Link.accepts` has them: each receiver finishes what it does not take."""

COUNTERS = {
    "in_frames": IN_FRAMES,
    "in_bytes": IN_BYTES,
    "flooded": FLOODED,
    "learned": LEARNED,
    "moved": MOVED_HERE,
    "unlearned": UNLEARNED,
    "dropped_vlan": DROPPED_VLAN,
    "dropped_invalid": DROPPED_INVALID,
    "dropped_reserved": DROPPED_RESERVED,
    "dropped_isolated": DROPPED_ISOLATED,
    "dropped_local": DROPPED_LOCAL,
    "dropped_storm": DROPPED_STORM,
    "dropped_loop": DROPPED_LOOP,
    "dropped_monitor": DROPPED_MONITOR,
    "out_frames": OUT_FRAMES,
    "out_bytes": OUT_BYTES,
    "mirrored": MIRRORED,
    "dropped_full": DROPPED_FULL,
    "dropped_down": DROPPED_DOWN,
}
"""A port's counters, and where they stand.

``in_*`` came in at the port and ``out_*`` left by it (``mirrored``: as a monitor's copies). ``learned`` and
``moved`` are stations, ``unlearned`` frames of stations for which the table had no place. Frames that came in
were dropped because: the port does not belong to their VLAN (``vlan``), they are no Ethernet frames or cannot
carry a tag (``invalid``), they are for switches themselves (``reserved``), both ports are isolated, their
receiver is behind the port they came from (``local``), too many were to be flooded (``storm``), switches form
a loop (``loop``), the port is a monitor. Frames that should have left were dropped because the receiver had
no room (``full``) or none is connected (``down``).
"""


@cython.cfunc
def refuse_inside() -> object:
    """UsageError on a thread that is in a switch's `put`: to wait for that would be to wait for itself."""
    if depth > 0:
        raise UsageError("a switch's ports cannot change while it hands over a frame on the same thread")
    return None


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


class Switch:
    """A learning switch. ``add`` makes a port: a `Link`, to which one NIC, or another link, connects.

    ``size`` stations at most are known, each for ``ageing`` seconds after its last frame. Frames to
    01:80:C2:00:00:00 to :0F, which are for switches themselves (802.1Q, 8.6.3), end here unless
    ``forward_reserved``.
    """

    def __cinit__(self) -> None:
        memory: cython.p_void = cython.NULL
        if posix_memalign(cython.address(memory), 64, SLOTS * cython.sizeof(Slot)) != 0:
            raise MemoryError
        memset(memory, 0, SLOTS * cython.sizeof(Slot))
        self.grace.slots = cython.cast(cython.pointer[Slot], memory)
        self.frozen = -1

    def __init__(
        self, name: str = "switch", *, size: int = 8192, ageing: int = 300, forward_reserved: bool = False
    ) -> None:
        if not 1 <= size <= 1 << 24 or not 0 <= ageing <= 1 << 20:
            raise UsageError(f"a switch for {size} stations and {ageing} s of ageing cannot be")
        self.name = name
        self.fdb = Fdb(size, ageing)
        self.forward_reserved = forward_reserved
        self.slots = []
        self.changing = threading.Lock()
        self.replace()

    def __dealloc__(self) -> None:
        free(self.snapshot)
        free(self.grace.slots)

    @property
    def ports(self) -> list[Port]:
        """Those there are, by number."""
        return [port for port in list(self.slots) if port is not None]

    def find(self, name: str) -> Port | None:
        """The port of that name."""
        return next((port for port in self.ports if port.port_name == name), None)

    def add(self, settings: PortSettings | None = None, kind: type[Port] | None = None) -> Port:
        """Make a port, a `Port` unless ``kind`` is a subclass.

        NetworkUrlError if its name is taken, NetworkError if there are too many.
        """
        chosen = settings or PortSettings()
        refuse_inside()
        with self.changing:
            if chosen.port and self.find(chosen.port) is not None:
                raise NetworkUrlError(f"switch {self.name} has a port {chosen.port} already")
            number = self.slots.index(None) if None in self.slots else len(self.slots)
            if number >= MAX_PORTS:
                raise NetworkError(f"switch {self.name} has {MAX_PORTS} ports, and no more")
            if number == len(self.slots):
                self.slots.append(None)
            port = (kind or Port)(self, chosen, number)
            self.slots[number] = port
            try:
                self.replace()
            except BaseException:
                self.slots[number] = None
                raise
        return port

    def remove(self, port: Port) -> None:
        """Take a port out and forget its stations: when this returns, no thread is in its guest's `put`."""
        refuse_inside()
        with self.changing:
            number: cython.int = port.number
            if number < 0:
                return
            self.slots[number] = None
            try:
                self.replace()
            except BaseException:
                self.slots[number] = port
                raise
            port.number = -1
            self.fdb.flush(number)

    def changed(self) -> None:
        """Have what ports are connected to take effect; returns when nothing else is in use any more."""
        refuse_inside()
        with self.changing:
            self.replace()

    def set_clock(self, seconds: int | None) -> None:
        """Have the switch's clock stand at ``seconds``, to test ageing; None: the machine's."""
        self.frozen = -1 if seconds is None else seconds

    def stations(self) -> list[Station]:
        """The table of addresses."""
        return self.fdb.stations(self.now())

    # Changing the ports.

    def replace(self):
        """Put a new snapshot in place and free the old one, once no thread can see it."""
        limit: cython.int = len(self.slots)
        old: cython.p_void
        size: cython.size_t = cython.sizeof(Snapshot) + limit * cython.sizeof(Member)
        snapshot = cython.cast(cython.pointer[Snapshot], calloc(1, size))
        if snapshot == cython.NULL:
            raise MemoryError
        snapshot.limit = limit
        try:
            self.fill(snapshot)
        except BaseException:
            free(snapshot)
            raise
        old = self.snapshot
        atomic.store_pointer(cython.address(self.snapshot), snapshot, atomic.SEQ_CST)
        with cython.nogil:
            wait_for_readers(cython.address(self.grace))
        free(old)
        return 0

    def fill(self, snapshot):
        """Write the ports into a snapshot."""
        member: cython.pointer[Member]
        port: Port
        number: cython.int
        other: cython.int
        for number in range(snapshot.limit):
            if self.slots[number] is None:
                continue
            port = self.slots[number]
            member = cython.address(snapshot.members[number])
            sink: Sink = port.guest
            member.owner = cython.cast(cython.pointer[PyObject], port)
            if sink is not None:
                member.sink = cython.cast(cython.pointer[PyObject], sink)
            member.counters = port.counters
            member.rules = port.rules
            member.isolated = port.isolated
            member.monitor = port.monitor
            member.storm = port.storm
            for watched in self.ports if port.monitor else ():
                if watched is not port and not watched.settings.mirror and watches(port, watched):
                    other = watched.number
                    member.watches[other >> 6] |= cython.cast(uint64_t, 1) << (other & 63)
                    snapshot.members[other].watched = True
        return 0

    # Forwarding.

    def now(self):
        time = cython.declare(timespec)
        if self.frozen >= 0:
            return self.frozen
        clock_gettime(CLOCK_MONOTONIC_COARSE, cython.address(time))
        return time.tv_sec

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
                self.learn(burst, key)
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
            return
        if outcome == NEW:
            burst.tally[LEARNED] += 1
        elif outcome == MOVED:
            burst.tally[MOVED_HERE] += 1
        elif outcome == FULL:
            burst.tally[UNLEARNED] += 1

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
        uniform: cython.bint = first >= 0
        flooded: cython.bint = False
        for i in range(burst.count):
            flooded |= burst.verdicts[i].target == FLOOD
            uniform &= burst.verdicts[i].target == first and not burst.verdicts[i].found.opaque
        if uniform and burst.source.rules.plain and burst.snapshot.members[first].rules.plain:
            self.hand(burst, first, burst.frames, burst.count)
            return
        if flooded:
            for i in range(burst.snapshot.limit):
                if i != burst.port:
                    self.deliver(burst, i)
            return
        for i in range(burst.count):
            first = burst.verdicts[i].target
            if first >= 0:
                self.deliver(burst, first)
                for j in range(i, burst.count):
                    if burst.verdicts[j].target == first:
                        burst.verdicts[j].target = NO_PORT

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


@cython.cfunc
def fill_rules(rules: cython.pointer[Rules], settings: object) -> cython.void:
    """Write a port's VLANs as forwarding reads them."""
    vlan: cython.int
    rules.plain = settings.vlan is None and settings.trunk is None
    rules.trunk = settings.trunk is not None
    rules.native = (settings.native or 0) if rules.trunk else (settings.vlan or 1)
    for vlan in settings.members:
        rules.members[vlan >> 6] |= cython.cast(uint64_t, 1) << (vlan & 63)


@cython.cfunc
def watches(monitor: Port, port: Port) -> cython.bint:
    return "all" in monitor.settings.mirror or port.port_name in monitor.settings.mirror


class Port(Link):
    """A port of a switch: what its guest sends comes in here. Made by `Switch.add`."""

    def __cinit__(self, switch: Switch, settings: PortSettings, number: int) -> None:
        memory: cython.p_void = cython.NULL
        if posix_memalign(cython.address(memory), 64, ALL_COUNTERS * cython.sizeof(uint64_t)) != 0:
            raise MemoryError
        memset(memory, 0, ALL_COUNTERS * cython.sizeof(uint64_t))
        self.counters = cython.cast(cython.pointer[uint64_t], memory)

    def __init__(self, switch: Switch, settings: PortSettings, number: int) -> None:
        Link.__init__(self)
        self.switch = switch
        self.settings = settings
        self.number = number
        self.port_name = settings.port or f"port{number}"
        fill_rules(cython.address(self.rules), settings)
        self.isolated = settings.isolated
        self.monitor = bool(settings.mirror)
        self.storm = settings.storm

    def __dealloc__(self) -> None:
        free(self.counters)

    @property
    def name(self) -> str:
        """Its URL."""
        return f"switch:{self.switch.name}?port={self.port_name}"

    @property
    def accepts(self) -> int:
        """All offloads: whoever receives a frame finishes what it does not take itself."""
        return EVERYTHING

    @property
    def up(self) -> bool:
        """Whether the port is still part of its switch."""
        return self.number >= 0

    @property
    def connected(self) -> bool:
        """Whether somebody takes what leaves by it."""
        return self.guest is not None

    def attached(self) -> Sink | None:
        """Who that is."""
        return self.guest

    def put(self, queue, frames, count):
        return self.switch.forward(
            cython.cast(cython.pointer[PyObject], self), self.number, queue, frames, count
        )

    def connect(self, guest: Sink, queues: int = 1) -> None:
        """Deliver to ``guest`` from now on. UsageError if the port is connected, or closed."""
        if self.number < 0:
            raise UsageError(f"{self.name} was closed")
        Link.connect(self, guest, queues)
        try:
            self.switch.changed()
        except BaseException:
            self.guest = None
            raise

    def disconnect(self) -> None:
        """Deliver nothing more: when this returns, no thread is in the guest's `put`."""
        before: Sink = self.guest
        self.guest = None
        try:
            self.switch.changed()
        except BaseException:
            self.guest = before
            raise

    def stats(self) -> dict[str, int]:
        """The port's counters; see `COUNTERS`."""
        found: dict = {}
        at: cython.int
        for name, where in COUNTERS.items():
            at = where
            found[name] = atomic.load_u64(self.counters + at, atomic.RELAXED)
        return found

    def close(self) -> None:
        """Leave the switch."""
        self.switch.remove(self)
