"""The device's end of both rings, on memory that the fuzzer fills: descriptors, indices, tables, buffers.

What the compiled queue takes must be what the model takes, and must end in the same complaint; every byte of
the chains must be accessible; and all goes back. Then the memory changes, and it must be survived again.
"""

from __future__ import annotations

import struct

from reading import Reader, fuzz
from rings import read_rig
from virtio import errors
from virtio.memory import GuestMemory
from virtio.testing.rig import Rig, shared_memory
from virtio.virtqueue import DeviceQueue, model
from virtio.virtqueue.queue import PoppedChain

FAR = 2**64 - 8
RAW = 0x10  # in the first byte: the input is the memory itself
REASONS = {
    errors.IndexJumpError: "INDEX_JUMP",
    errors.DescriptorIndexError: "HEAD_BEYOND_SIZE",
    errors.ChainLoopError: "LOOP",
    errors.IndirectUnexpectedError: "INDIRECT_NOT_NEGOTIATED",
    errors.IndirectNestedError: "INDIRECT_NESTED",
    errors.IndirectNextError: "INDIRECT_WITH_NEXT",
    errors.IndirectSizeError: "INDIRECT_SIZE",
    errors.BufferAddressError: "ADDRESS",
    errors.AddressWrapError: "ADDRESS_WRAPS",
    errors.LengthZeroError: "LENGTH_ZERO",
    errors.LengthOverflowError: "LENGTH_OVERFLOW",
    errors.ChainOrderError: "ORDER",
    errors.TooManyChainsError: "TOO_MANY_OUTSTANDING",
    errors.ChainTruncatedError: "PACKED_TRUNCATED",
}


def target(source: Reader) -> None:
    raw = bool(source.data[:1] and source.data[0] & RAW)
    rig = read_rig(source)
    memory = shared_memory(rig.total)
    fill(rig, memory, source, raw)
    queue = rig.device(memory)
    ideal = rig.model_device(rig.model_memory(memory.view(0, rig.total)))
    chains, complaint = take_all(queue)
    wanted, expected = model_take_all(ideal)
    assert [(chain.id, chain.slots, chain.writable_length) for chain in chains] == wanted
    assert complaint == expected, (complaint, expected)
    give_back(queue, chains, source)
    memory.write(0, source.rest()[: rig.total])
    chains, _ = take_all(queue)
    give_back(queue, chains, source)
    assert queue.outstanding == 0


def fill(rig: Rig, memory: GuestMemory, source: Reader, raw: bool) -> None:
    """The ring and its tables: as they come, or from descriptors of 8 bytes, whose addresses tend to fit."""
    if raw:
        memory.write(0, source.take(rig.total))
        return
    descriptors, driver_area, _ = rig.areas
    order = "<" if rig.byte_order == "little" else ">"
    places = [descriptors + 16 * index for index in range(rig.size)]
    places += range(rig.tables, min(rig.tables + 16 * 8, rig.buffers), 16)
    for place in places:
        memory.write(place, struct.pack(order + "QIHH", *read_descriptor(source, rig)))
    if not rig.packed:
        for place in range(driver_area, driver_area + 4 + 2 * rig.size, 2):
            memory.write(place, struct.pack(order + "H", source.number(1) * (257 if source.number(1) else 1)))


def read_descriptor(source: Reader, rig: Rig) -> tuple[int, int, int, int]:
    """Address, length, and the last two words, which split and packed rings have the other way round."""
    where, length = source.number(2), source.number(2)
    flags, other = source.number(1), source.number(1)
    address = FAR if where == 0xFFFF else where % (2 * rig.total)
    size = 0xFFFFFFFF if length == 0xFFFF else length
    if not rig.packed:
        return address, size, flags, other
    return address, size, other, flags & 7 | (flags & 0x40) << 1 | (flags & 0x80) << 8


def take_all(queue: DeviceQueue) -> tuple[list[PoppedChain], str | None]:
    """Everything there is to take, each byte of it touched, and what was wrong in the end."""
    chains: list[PoppedChain] = []
    while True:
        try:
            chain = queue.pop()
        except errors.RingError as error:
            assert queue.fault_error() is not None
            return chains, REASONS[type(error)]
        if chain is None:
            return chains, None
        chains.append(chain)
        assert len(chains) <= queue.size
        assert sum(map(len, chain.readable)) == chain.readable_length
        assert sum(map(len, chain.writable)) == chain.writable_length
        for view in (*chain.readable, *chain.writable):
            bytes(view)


def model_take_all(
    ideal: model.SplitDevice | model.PackedDevice,
) -> tuple[list[tuple[int, int, int]], str | None]:
    """The same by the model."""
    chains = []
    while True:
        try:
            chain = ideal.take()
        except model.Malformed as complaint:
            return chains, complaint.reason
        if chain is None:
            return chains, None
        chains.append((chain.id, chain.slots, chain.writable_length))


def give_back(queue: DeviceQueue, chains: list[PoppedChain], source: Reader) -> None:
    """In some order, with writes to the buffers, which may lie over the ring."""
    while chains:
        chain = chains.pop(source.number(1) % len(chains))
        for view in chain.writable:
            view[-1:] = bytes([source.number(1)])
        queue.push(chain, min(chain.writable_length, 0xFFFFFFFF))
        queue.publish_used()


def seeds() -> list[bytes]:
    """A chain of two, and one through a table, on each ring."""
    split = struct.pack("<HHBB", 0x300, 16, 1, 1) + struct.pack("<HHBB", 0x380, 16, 2, 0)
    packed = struct.pack("<HHBB", 0x300, 16, 0x41, 0) + struct.pack("<HHBB", 0x380, 16, 0x42, 0)
    split_rest, packed_rest = bytes(6 * 10) + b"\0\0\1\0\0\0", bytes(6 * 10)
    return [
        bytes([0, 2]) + split + split_rest,
        bytes([1, 2]) + split + split_rest,
        bytes([8, 3]) + packed + packed_rest,
        bytes([9, 3]) + struct.pack("<HHBB", 0x60, 32, 0x44, 0) + packed + packed_rest,
        bytes([RAW | 8, 3]) + bytes(4096),
    ]


if __name__ == "__main__":
    fuzz(target, seeds())
