"""A ring written by hand, byte by byte: what a driver, honest or not, leaves in memory."""

import os
import struct
from collections.abc import Sequence

import pytest

from virtio.memory import GuestMemory, Mapping
from virtio.virtqueue import SplitDeviceQueue, SplitDriverQueue, legacy_split_layout, split_layout

NEXT, WRITE, INDIRECT = 1, 2, 4
BASE = 0x10000
MEMORY = 0x100000


def make_memory(size=MEMORY, base=BASE):
    """One region of zeroed guest memory."""
    return GuestMemory([map_region(size, base, user_address=0x7F0000000000)])


def map_region(size, guest_address, **options):
    """A region of its own zeroed memory; sparse, so its size costs nothing."""
    fd = os.memfd_create("region")
    try:
        os.ftruncate(fd, size)
        return Mapping.from_fd(fd, size, guest_address=guest_address, **options)
    finally:
        os.close(fd)


class RawSplitRing:
    """The driver's half of a split ring, and a look at the device's half."""

    def __init__(self, size=8, memory=None, byte_order="little", legacy=False):
        self.memory = memory or make_memory()
        self.size = size
        self.order = "<" if byte_order == "little" else ">"
        self.byte_order = byte_order
        layout = legacy_split_layout(size) if legacy else split_layout(size)
        self.descriptors, self.driver_area, self.device_area = layout.addresses(BASE)
        self.data = BASE + 0x80000
        self.index = 0

    def device(self, **options):
        return SplitDeviceQueue(
            self.memory,
            self.size,
            self.descriptors,
            self.driver_area,
            self.device_area,
            byte_order=self.byte_order,
            **options,
        )

    def driver(self, **options):
        return SplitDriverQueue(
            self.memory,
            self.size,
            self.descriptors,
            self.driver_area,
            self.device_area,
            byte_order=self.byte_order,
            **options,
        )

    def put_used(self, position, identifier, length):
        place = self.device_area + 4 + 8 * (position % self.size)
        self.memory.write(place, self.pack("II", identifier, length))

    def set_used(self, index):
        self.memory.write(self.device_area + 2, self.pack("H", index & 0xFFFF))

    def set_avail_event(self, index):
        self.memory.write(self.device_area + 4 + 8 * self.size, self.pack("H", index & 0xFFFF))

    def set_used_flags(self, flags):
        self.memory.write(self.device_area, self.pack("H", flags))

    def read_descriptor(self, index, table=None):
        place = (self.descriptors if table is None else table) + 16 * index
        return struct.unpack(self.order + "QIHH", self.memory.read(place, 16))

    def available(self, position):
        return self.word(self.driver_area + 4 + 2 * (position % self.size))

    @property
    def avail_index(self):
        return self.word(self.driver_area + 2)

    @property
    def avail_flags(self):
        return self.word(self.driver_area)

    @property
    def used_event(self):
        return self.word(self.driver_area + 4 + 2 * self.size)

    def pack(self, layout, *values):
        return struct.pack(self.order + layout, *values)

    def word(self, address):
        return struct.unpack(self.order + "H", self.memory.read(address, 2))[0]

    def descriptor(self, index, address, length, flags=0, following=0, table=None):
        place = (self.descriptors if table is None else table) + 16 * index
        self.memory.write(place, self.pack("QIHH", address, length, flags, following))

    def chain(self, first, buffers: Sequence[tuple[int, int, int]], table=None):
        """Descriptors one after the other from ``first``: (address, length, flags)."""
        for i, (address, length, flags) in enumerate(buffers):
            more = NEXT if i + 1 < len(buffers) else 0
            self.descriptor(first + i, address, length, flags | more, first + i + 1 if more else 0, table)

    def offer(self, *heads):
        for head in heads:
            place = self.driver_area + 4 + 2 * (self.index % self.size)
            self.memory.write(place, self.pack("H", head))
            self.index = (self.index + 1) & 0xFFFF
        self.set_available(self.index)

    def set_available(self, index):
        self.memory.write(self.driver_area + 2, self.pack("H", index & 0xFFFF))

    def set_flags(self, flags):
        self.memory.write(self.driver_area, self.pack("H", flags))

    def set_used_event(self, index):
        self.memory.write(self.driver_area + 4 + 2 * self.size, self.pack("H", index & 0xFFFF))

    @property
    def used_index(self):
        return self.word(self.device_area + 2)

    @property
    def used_flags(self):
        return self.word(self.device_area)

    @property
    def avail_event(self):
        return self.word(self.device_area + 4 + 8 * self.size)

    def used(self, position):
        place = self.device_area + 4 + 8 * (position % self.size)
        return struct.unpack(self.order + "II", self.memory.read(place, 8))


@pytest.fixture
def guest_memory():
    return make_memory


@pytest.fixture
def raw_split():
    return RawSplitRing


@pytest.fixture
def sparse_memory():
    """The usual memory and 4 GiB at 0x1000000000, of which no page is ever touched."""
    return make_memory().add(map_region(1 << 32, 0x1000000000))


@pytest.fixture
def two_regions():
    """The usual memory and a read-only page at 0x200000."""
    return make_memory().add(map_region(0x1000, 0x200000, writable=False))
