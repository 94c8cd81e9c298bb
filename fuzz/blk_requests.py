"""Requests to a disk, cut into any buffers, which may overlap: each is answered, and the disk lives on.

Three disks (in memory, in a file, in a Storage of plain Python) are served over split and packed rings by
the real engine and its thread; inputs say what is in memory and which parts of it make up the chains.
"""

from __future__ import annotations

import os
import select
import struct
import tempfile

from reading import Reader, fuzz
from virtio.device import Attachment
from virtio.devices.blk import Blk
from virtio.memory import GuestMemory, Mapping
from virtio.spec import blk
from virtio.spec import features as bits
from virtio.storage import MemoryStorage, Storage
from virtio.virtqueue import driver_queue, packed_layout, split_layout

DISK = 64 << 10
RING = 16 << 10  # bytes at the start of memory for the ring; then the buffers
ARENA = 64 << 10
SIZE = 16
PATIENCE = 10.0  # seconds for an answer
STATUSES = {blk.S_OK, blk.S_IOERR, blk.S_UNSUPP}


class Plain(Storage):
    """A disk in plain Python."""

    def __init__(self) -> None:
        super().__init__(DISK)
        self.data = bytearray(DISK)

    def read(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.data[offset : offset + len(buffer)]

    def write(self, offset: int, data: memoryview) -> None:
        self.data[offset : offset + len(data)] = data

    def flush(self) -> None:
        pass

    def discard(self, offset: int, length: int) -> None:
        self.data[offset : offset + length] = bytes(length)


class Bench:
    """One disk, attached, and the driver's end of its queue."""

    def __init__(self, device: Blk, *, packed: bool) -> None:
        fd = os.memfd_create("fuzz")
        os.ftruncate(fd, RING + ARENA)
        self.device = device
        self.memory = GuestMemory([Mapping.from_fd(fd, RING + ARENA)])
        os.close(fd)
        self.faults: list[Exception] = []
        self.attachment = Attachment(
            device, on_fault=lambda index, error: self.faults.append(error), poll_us=20
        )
        unwanted = 0 if packed else bits.mask(bits.RING_PACKED)
        features = self.attachment.offered_features & ~unwanted & ~bits.mask(bits.INDIRECT_DESC)
        self.attachment.set_features(features)
        self.attachment.set_memory(self.memory)
        areas = (packed_layout(SIZE) if packed else split_layout(SIZE)).addresses(0)
        self.driver = driver_queue(self.memory, SIZE, *areas, features=features)
        self.call = os.eventfd(0, os.EFD_NONBLOCK)
        self.vring = self.attachment.vrings[0]
        self.vring.set_size(SIZE)
        self.vring.set_addresses(*areas)
        self.vring.set_kick(None, in_band=True)
        self.vring.set_call(os.dup(self.call))
        self.vring.set_enabled(True)
        self.vring.start()

    def run(self, source: Reader) -> None:
        """Offer the input's chains, and wait until all are back."""
        chains = [read_chain(source) for _ in range(source.number(1) % 4 + 1)]
        content = source.rest()[:ARENA]
        self.memory.write(RING, content.ljust(ARENA, b"\0"))
        offered = {}
        for token, (readable, writable) in enumerate(chains):
            if (readable or writable) and self.driver.add_buffers(readable, writable, token):
                offered[token] = writable
        self.driver.publish_added()
        self.vring.kick()
        alone = len(offered) == 1
        while offered:
            for token, written in self.driver.reap_completions():
                self.check(offered.pop(token), written, alone)
            if offered and not self.driver.request_notifications():
                assert select.select([self.call], [], [], PATIENCE)[0], "the disk does not answer"
                os.eventfd_read(self.call)
        assert not self.faults, self.faults
        assert self.device.storage.size == DISK

    def close(self) -> None:
        """Detach, and let go of the disk."""
        self.attachment.close()
        self.device.close()
        os.close(self.call)

    def check(self, writable: list[tuple[int, int]], written: int, alone: bool) -> None:
        """No more written than there is room for; with nobody else writing, a status of those there are."""
        assert written <= sum(length for _, length in writable)
        if written and alone:
            address, length = writable[-1]
            assert self.memory.read(address + length - 1, 1)[0] in STATUSES


def read_chain(source: Reader) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """One byte of shape, then offset and length of each buffer."""
    shape = source.number(1)
    buffers = []
    for _ in range(shape >> 3 & 7):
        offset, length = source.number(2), source.number(2)
        buffers.append((RING + offset, min(length, ARENA - offset) or 1))
    return buffers[: shape & 7], buffers[shape & 7 :]


def benches(folder: str) -> list[Bench]:
    """Every disk over every ring; the files are in ``folder``."""
    made = []
    for packed in (False, True):
        path = os.path.join(folder, "packed.img" if packed else "split.img")
        with open(path, "wb") as file:
            file.truncate(DISK)
        made += [Bench(Blk(storage), packed=packed) for storage in (MemoryStorage(DISK), path, Plain())]
    return made


def target(source: Reader, benches: list[Bench]) -> None:
    benches[source.number(1) % len(benches)].run(source)


def seeds() -> list[bytes]:
    """Each request type as Linux sends it, and cut oddly."""
    made = []
    for which in range(6):
        for kind in (blk.T_IN, blk.T_OUT, blk.T_FLUSH, blk.T_GET_ID, blk.T_DISCARD, blk.T_WRITE_ZEROES, 99):
            header = struct.pack("<IIQ", kind, 0, 1)
            data = struct.pack("<QII", 2, 8, 0)
            length = 16 if kind > blk.T_FLUSH else 512
            reading = kind in (blk.T_IN, blk.T_GET_ID)
            shape = 3 << 3 | (1 if reading else 2)
            parts = struct.pack("<HHHHHH", 0, 16, 16, length, 2048, 1)
            made.append(bytes([which, 0, shape]) + parts + header + data)
            odd = struct.pack("<HHHHHH", 0, 7, 7, length + 9, 2048, 1)
            made.append(bytes([which, 0, shape]) + odd + header + data)
    return made


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="virtio-fuzz-") as place:
        ALL = benches(place)
        fuzz(lambda source: target(source, ALL), seeds())
