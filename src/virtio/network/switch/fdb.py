"""Which station is behind which port: the switch's table of addresses, bounded, with ageing.

>>> table = Fdb(size=64, ageing=300)
>>> _ = table.see("52:54:00:00:00:01", vlan=1, port=7, now=1000)
>>> table.where("52:54:00:00:00:01", vlan=1, now=1300)
7
>>> table.where("52:54:00:00:00:01", vlan=1, now=1301) is None
True
"""

from __future__ import annotations

from typing import NamedTuple

import cython
from cython.cimports.libc.stdint import int32_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.storage.linux import posix_memalign, usleep

__all__ = ["Fdb", "Station"]


class Station(NamedTuple):
    """A line of the table: ``address`` was last heard of on ``port``, ``age`` seconds ago."""

    vlan: int
    address: str
    port: int
    age: int


def parse_address(text: str) -> int:
    """``52:54:00:12:34:56`` as a number; ValueError for anything else."""
    octets = [int(part, 16) for part in text.split(":")]
    if len(octets) != 6 or not all(0 <= octet <= 255 for octet in octets):
        raise ValueError(f"{text!r} is no MAC address")
    return int.from_bytes(bytes(octets), "big")


class Fdb:
    """A table for ``size`` stations, which forgets one that was silent for ``ageing`` seconds (0: never)."""

    def __cinit__(self, size: int = 8192, ageing: int = 300) -> None:
        memory: cython.p_void = cython.NULL
        buckets: cython.int = 1
        while buckets * WAYS < size:
            buckets *= 2
        if posix_memalign(cython.address(memory), 64, buckets * cython.sizeof(Bucket)) != 0:
            raise MemoryError
        memset(memory, 0, buckets * cython.sizeof(Bucket))
        self.table.buckets = cython.cast(cython.pointer[Bucket], memory)
        self.table.mask = buckets - 1
        self.table.ageing = ageing
        self.capacity = buckets * WAYS

    def __init__(self, size: int = 8192, ageing: int = 300) -> None:
        pass

    def __dealloc__(self) -> None:
        free(self.table.buckets)

    @property
    def ageing(self) -> int:
        """Seconds of silence after which a station is forgotten; 0: never."""
        return self.table.ageing

    # From Python, for tables that are looked at.

    def see(self, address: str, vlan: int, port: int, now: int) -> int:
        """Note that a frame of ``address`` came in at ``port``; a value of ``Learned``."""
        key: uint64_t = key_of(parse_address(address), vlan)
        return self.learn(key, port, now)

    def where(self, address: str, vlan: int, now: int) -> int | None:
        """The port of a station, if it is known and not too old."""
        found: cython.int = port_of(cython.address(self.table), key_of(parse_address(address), vlan), now)
        return None if found == NOWHERE else found

    def flush(self, port: int) -> None:
        """Forget all stations of ``port``."""
        number: cython.int = port
        with cython.nogil:
            self.forget(number)

    def stations(self, now: int) -> list[Station]:
        """All that are alive, by VLAN and address."""
        present: uint32_t = now
        found: list = []
        bucket: cython.pointer[Bucket]
        i: uint32_t
        way: cython.int
        with cython.nogil:
            self.lock()
        try:
            for i in range(self.table.mask + 1):
                bucket = self.table.buckets + i
                for way in range(WAYS):
                    if bucket.keys[way] and alive(cython.address(self.table), bucket.stamps[way], present):
                        key: uint64_t = bucket.keys[way]
                        octets = (key & 0xFFFFFFFFFFFF).to_bytes(6, "big")
                        age: int32_t = present - bucket.stamps[way]
                        vlan = (key >> 48) & 0xFFF
                        found.append(Station(vlan, octets.hex(":"), bucket.ports[way], max(0, age)))
        finally:
            atomic.store_int(cython.address(self.table.writing), 0, atomic.RELEASE)
        return sorted(found)

    # Without the GIL.

    def learn(self, key, port, now):
        place = cython.declare(Place)
        result: Learned
        if find(cython.address(self.table), key, cython.address(place)) and place.port == port:
            if place.stamp == now:
                return KNOWN
            if alive(cython.address(self.table), place.stamp, now):
                # At worst this keeps a station alive that has just taken the place, and was just heard of.
                atomic.store_u32(cython.address(place.bucket.stamps[place.way]), now, atomic.RELAXED)
                return KNOWN
        if exchange_int(cython.address(self.table.writing), 1, atomic.ACQUIRE) != 0:
            return BUSY
        result = self.insert(key, port, now)
        atomic.store_int(cython.address(self.table.writing), 0, atomic.RELEASE)
        return result

    def insert(self, key, port, now):
        """Put a station in, or move it, as the only writer."""
        table: cython.pointer[Table] = cython.address(self.table)
        place = cython.declare(Place)
        bucket: cython.pointer[Bucket]
        choice: cython.int
        way: cython.int
        if find(table, key, cython.address(place)):
            if place.port == port and alive(table, place.stamp, now):
                return KNOWN  # another thread was faster
            self.write(place.bucket, place.way, key, port, now)
            return MOVED if place.port != port and alive(table, place.stamp, now) else NEW
        for choice in range(2):
            bucket = table.buckets + ((first_choice(key) if choice == 0 else second_choice(key)) & table.mask)
            for way in range(WAYS):
                if bucket.keys[way] == 0 or not alive(table, bucket.stamps[way], now):
                    self.write(bucket, way, key, port, now)
                    return NEW
        return FULL

    def write(self, bucket, way, key, port, now):
        version: uint32_t = bucket.version
        atomic.store_u32(cython.address(bucket.version), version + 1, atomic.RELAXED)
        atomic.fence(atomic.RELEASE)  # the odd version is seen before anything that follows
        atomic.store_u64(cython.address(bucket.keys[way]), key, atomic.RELAXED)
        atomic.store_u32(cython.address(bucket.stamps[way]), now, atomic.RELAXED)
        store_i16(cython.address(bucket.ports[way]), port, atomic.RELAXED)
        atomic.store_u32(cython.address(bucket.version), version + 2, atomic.RELEASE)

    def forget(self, port):
        bucket: cython.pointer[Bucket]
        i: uint32_t
        way: cython.int
        self.lock()
        for i in range(self.table.mask + 1):
            bucket = self.table.buckets + i
            for way in range(WAYS):
                if bucket.keys[way] and bucket.ports[way] == port:
                    self.write(bucket, way, 0, NOWHERE, 0)
        atomic.store_int(cython.address(self.table.writing), 0, atomic.RELEASE)

    def lock(self):
        while exchange_int(cython.address(self.table.writing), 1, atomic.ACQUIRE) != 0:
            usleep(20)
