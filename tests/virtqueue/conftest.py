"""A ring written by hand, byte by byte: what a driver, honest or not, leaves in memory."""

import os
import struct
from collections.abc import Sequence

import pytest

from virtio.memory import GuestMemory, Mapping
from virtio.virtqueue import SplitDeviceQueue, legacy_split_layout, split_layout

NEXT, WRITE, INDIRECT = 1, 2, 4
BASE = 0x10000
MEMORY = 0x100000


def make_memory(size=MEMORY, base=BASE):
    """One region of zeroed guest memory."""
    fd = os.memfd_create("guest")
    try:
        os.ftruncate(fd, size)
        return GuestMemory([Mapping.from_fd(fd, size, guest_address=base, user_address=0x7F0000000000)])
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
