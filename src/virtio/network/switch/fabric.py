"""The switch itself: a learning switch between any number of links, in one process.

Ports come and go while frames are forwarded: whoever changes them writes a new snapshot for the `Forwarder`,
and waits until no thread can still see the old one.
"""

from __future__ import annotations

import threading

import cython
from cython.cimports.cpython.ref import PyObject
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memset
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.link import Link, Sink
from cython.cimports.virtio.network.switch.fdb import Fdb
from cython.cimports.virtio.network.switch.forwarding import (
    ALL_COUNTERS,
    DROPPED_DOWN,
    DROPPED_FULL,
    DROPPED_INVALID,
    DROPPED_ISOLATED,
    DROPPED_LOCAL,
    DROPPED_LOOP,
    DROPPED_MONITOR,
    DROPPED_RESERVED,
    DROPPED_STORM,
    DROPPED_VLAN,
    FLOODED,
    IN_BYTES,
    IN_FRAMES,
    LEARNED,
    MAX_PORTS,
    MIRRORED,
    MOVED_HERE,
    OUT_BYTES,
    OUT_FRAMES,
    UNLEARNED,
    Forwarder,
    Member,
    Snapshot,
)
from cython.cimports.virtio.network.switch.vlan import Rules
from cython.cimports.virtio.storage.linux import posix_memalign

from virtio.errors import NetworkError, NetworkUrlError, UsageError
from virtio.network.switch.settings import PortSettings
from virtio.spec import net

__all__ = ["COUNTERS", "EVERYTHING", "Port", "Switch"]

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


class Switch:
    """A learning switch. ``add`` makes a port: a `Link`, to which one NIC, or another link, connects.

    ``size`` stations at most are known, each for ``ageing`` seconds after its last frame. Frames to
    01:80:C2:00:00:00 to :0F, which are for switches themselves (802.1Q, 8.6.3), end here unless
    ``forward_reserved``.
    """

    def __init__(
        self, name: str = "switch", *, size: int = 8192, ageing: int = 300, forward_reserved: bool = False
    ) -> None:
        if not 1 <= size <= 1 << 24 or not 0 <= ageing <= 1 << 20:
            raise UsageError(f"a switch for {size} stations and {ageing} s of ageing cannot be")
        Forwarder.__init__(self, Fdb(size, ageing), forward_reserved)
        self.name = name
        self.slots = []
        self.changing = threading.Lock()
        self.replace()

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
        self.refuse_inside()
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
        self.refuse_inside()
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
        self.refuse_inside()
        with self.changing:
            self.replace()

    def set_clock(self, seconds: int | None) -> None:
        """Have the switch's clock stand at ``seconds``, to test ageing; None: the machine's."""
        self.frozen = -1 if seconds is None else seconds

    def stations(self) -> list[Station]:
        """The table of addresses."""
        return self.fdb.stations(self.now())

    # Changing the ports.

    def refuse_inside(self):
        """UsageError on a thread that is in a switch's `put`: it would wait for itself."""
        if self.inside():
            raise UsageError("a switch's ports cannot change while it hands over a frame on the same thread")
        return 0

    def replace(self):
        """Put a new snapshot in place and free the old one, once no thread can see it."""
        limit: cython.int = len(self.slots)
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
        with cython.nogil:
            self.use(snapshot)
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
