"""A ring of any kind laid out in shared memory, either end of which is the compiled one or the model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from virtio.memory import GuestMemory, Mapping
from virtio.virtqueue import model
from virtio.virtqueue.layout import packed_layout, split_layout
from virtio.virtqueue.make import device_queue, driver_queue
from virtio.virtqueue.model.ends import INDIRECT_DESC
from virtio.virtqueue.model.memory import ByteOrder
from virtio.virtqueue.queue import DeviceQueue, DriverQueue
from virtio.virtqueue.state import QueueState

__all__ = ["RING_PACKED", "Rig", "shared_memory"]

RING_PACKED = 1 << 34  # VIRTIO_F_RING_PACKED
DESCRIPTOR = 16  # bytes
USED_FLAGS = 0x8080  # AVAIL and USED of a packed descriptor
PAGE = 4096


def shared_memory(size: int) -> GuestMemory:
    """``size`` bytes of new memory at guest address 0, gone with the last reference to it."""
    fd = os.memfd_create("virtio-rig")
    try:
        os.ftruncate(fd, size)
        return GuestMemory([Mapping.from_fd(fd, size)])
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Rig:
    """Where a ring, its indirect tables and ``buffer_bytes`` for buffers are in memory, and how it works.

    From address 0: the ring, then a table of ``table_entries`` descriptors for each descriptor of the ring,
    then the buffers. ``features`` is a mask; RING_PACKED chooses the ring.
    """

    size: int
    features: int = 0
    byte_order: ByteOrder = "little"
    table_entries: int = 4
    buffer_bytes: int = 256

    @property
    def packed(self) -> bool:
        """Whether it is a packed ring."""
        return bool(self.features & RING_PACKED)

    @property
    def areas(self) -> tuple[int, int, int]:
        """Addresses of the descriptor, driver and device area."""
        return (packed_layout(self.size) if self.packed else split_layout(self.size)).addresses(0)

    @property
    def tables(self) -> int:
        """Address of the indirect tables, and of the first byte that is not the ring's."""
        layout = packed_layout(self.size) if self.packed else split_layout(self.size)
        return -(-layout.total // DESCRIPTOR) * DESCRIPTOR

    @property
    def buffers(self) -> int:
        """Address of the bytes for buffers."""
        return self.tables + self.size * self.table_entries * DESCRIPTOR

    @property
    def total(self) -> int:
        """Bytes of memory it takes, in whole pages."""
        return -(-(self.buffers + self.buffer_bytes) // PAGE) * PAGE

    def goes_indirect(self, count: int) -> bool:
        """Whether the compiled driver puts a chain of ``count`` buffers into an indirect table."""
        return bool(self.features & INDIRECT_DESC) and 1 < count <= self.table_entries

    def device(self, memory: GuestMemory, state: QueueState | None = None) -> DeviceQueue:
        """The compiled device's end."""
        order: dict[str, Any] = {} if self.packed else {"byte_order": self.byte_order}
        return device_queue(memory, self.size, *self.areas, features=self.features, state=state, **order)

    def driver(self, memory: GuestMemory, state: QueueState | None = None) -> DriverQueue:
        """The compiled driver's end."""
        options: dict[str, Any] = {} if self.packed else {"byte_order": self.byte_order}
        if self.features & INDIRECT_DESC:
            options |= {"indirect_tables": self.tables, "indirect_entries": self.table_entries}
        return driver_queue(memory, self.size, *self.areas, features=self.features, state=state, **options)

    def model_memory(self, data: bytearray | memoryview) -> model.Memory:
        """Memory as the model sees it."""
        return model.Memory(data, self.byte_order)

    def model_device(
        self, memory: model.Memory, state: QueueState | None = None
    ) -> model.SplitDevice | model.PackedDevice:
        """The model device's end; one used descriptor for several chains where the compiled one does so."""
        kind = model.PackedDevice if self.packed else model.SplitDevice
        device = kind(memory, self.size, *self.areas, features=self.features, state=state)
        device.merge, device.merge_written = self.packed, False
        return device

    def model_driver(
        self, memory: model.Memory, state: QueueState | None = None
    ) -> model.SplitDriver | model.PackedDriver:
        """The model driver's end; its indirect tables are where the compiled driver has them."""
        kind = model.PackedDriver if self.packed else model.SplitDriver
        driver = kind(memory, self.size, *self.areas, features=self.features, state=state)
        driver.tables, driver.table_entries = self.tables, self.table_entries
        return driver

    def leave_at(self, memory: model.Memory, state: QueueState) -> None:
        """Write the ring as it is when all chains before ``state`` have come and gone."""
        descriptors, driver_area, device_area = self.areas
        if not self.packed:
            memory.store(driver_area + 2, 2, state.avail_index)
            memory.store(device_area + 2, 2, state.used_index)
            return
        for index in range(self.size):
            this_lap = state.used_wrap if index < state.used_index else not state.used_wrap
            memory.store(descriptors + DESCRIPTOR * index + 14, 2, USED_FLAGS if this_lap else 0)
