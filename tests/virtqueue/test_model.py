"""The model is checked against bytes and rules written down by hand, since nothing else checks it."""

import doctest
import random
import struct

import pytest

from virtio.virtqueue import model
from virtio.virtqueue.model import Malformed, Memory, PackedDevice, PackedDriver, SplitDevice, SplitDriver
from virtio.virtqueue.state import QueueState

INDIRECT_DESC, EVENT_IDX, IN_ORDER = 1 << 28, 1 << 29, 1 << 35
NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 0x80, 0x8000
RING, DRIVER, DEVICE, TABLES = 0x1000, 0x1100, 0x1200, 0x2000
KINDS = {"split": (SplitDriver, SplitDevice), "packed": (PackedDriver, PackedDevice)}


def pair(kind, *, size=4, features=0, state=None, memory=None, merge=False):
    """Both ends of a new ring, and its memory."""
    memory = memory or Memory(bytearray(0x8000))
    ends = [end(memory, size, RING, DRIVER, DEVICE, features=features, state=state) for end in KINDS[kind]]
    ends[0].tables, ends[1].merge = TABLES, merge
    return *ends, memory


def descriptor(memory, index, ring=RING):
    return struct.unpack("<QIHH", memory.read(ring + 16 * index, 16))


def test_doctest():
    assert doctest.testmod(model).failed == 0
    assert doctest.testmod(model).attempted > 5


def test_split_bytes():
    driver, device, memory = pair("split")
    driver.add([(0x10, 1), (0x20, 2)], [(0x30, 3)], 9)
    assert device.take() is None
    assert driver.publish()
    assert [descriptor(memory, at) for at in range(3)] == [
        (0x10, 1, NEXT, 1),
        (0x20, 2, NEXT, 2),
        (0x30, 3, WRITE, 0),
    ]
    assert memory.read(DRIVER, 6) == struct.pack("<HHH", 0, 1, 0)
    device.give(device.take(), 2)
    assert not driver.done()
    assert device.publish()
    assert memory.read(DEVICE, 12) == struct.pack("<HHII", 0, 1, 0, 2)
    assert driver.reap() == [(9, 2)]
    assert driver.free_descriptors == 4


def test_split_bytes_of_a_big_endian_guest():
    driver, device, memory = pair("split", memory=Memory(bytearray(0x8000), "big"))
    driver.add([(0x10, 1)], [], 9)
    driver.publish()
    assert memory.read(RING, 16) == struct.pack(">QIHH", 0x10, 1, 0, 0)
    assert memory.read(DRIVER, 6) == struct.pack(">HHH", 0, 1, 0)
    device.give(device.take(), 0)
    device.publish()
    assert memory.read(DEVICE, 12) == struct.pack(">HHII", 0, 1, 0, 0)
    assert driver.reap() == [(9, 0)]


def test_packed_bytes_over_two_laps():
    driver, device, memory = pair("packed", size=3)
    driver.add([(0x10, 1)], [(0x30, 3)], 9)
    assert device.take() is None
    assert driver.publish()
    assert [descriptor(memory, at) for at in range(2)] == [
        (0x10, 1, 0, AVAIL | NEXT),
        (0x30, 3, 0, AVAIL | WRITE),
    ]
    device.give(device.take(), 2)
    assert device.publish()
    assert descriptor(memory, 0) == (0x10, 2, 0, AVAIL | USED | WRITE)
    assert driver.reap() == [(9, 2)]
    # The next list begins in the last descriptor and ends in the first, a lap later.
    driver.add([(0x40, 4)], [(0x50, 5)], 8)
    driver.publish()
    assert descriptor(memory, 2)[3] == AVAIL | NEXT
    assert descriptor(memory, 0)[3] == USED | WRITE
    device.give(device.take(), 0)
    device.publish()
    assert descriptor(memory, 2)[3] == AVAIL | USED
    assert driver.reap() == [(8, 0)]
    assert device.state() == QueueState(1, 1, False, False) == driver.state()


@pytest.mark.parametrize("kind", KINDS)
def test_indirect_table(kind):
    driver, device, memory = pair(kind, features=INDIRECT_DESC)
    for token in range(4):
        assert driver.add([(0x10, 1), (0x20, 2)], [(0x30, 3)], token, indirect=True)
    assert not driver.add([(0x10, 1)], [], 4)
    driver.publish()
    taken = [device.take() for _ in range(4)]
    assert [(chain.readable, chain.writable, chain.slots) for chain in taken] == [
        ([(0x10, 1), (0x20, 2)], [(0x30, 3)], 1)
    ] * 4
    assert descriptor(memory, 1)[:2] == (TABLES + 4 * 16, 48)
    with pytest.raises(ValueError, match="not negotiated"):
        pair(kind)[0].add([(0, 1)], [], 0, indirect=True)


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_completion(kind):
    driver, device, _ = pair(kind)
    for token in range(3):
        driver.add([], [(0x10, 8)], token)
    driver.publish()
    first, second, third = (device.take() for _ in range(3))
    for chain, written in ((third, 3), (first, 1)):
        device.give(chain, written)
    device.publish()
    assert driver.reap() == [(2, 3), (0, 1)]
    device.give(second, 2)
    device.publish()
    assert driver.reap() == [(1, 2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("merge", [False, True])
def test_in_order_waits_and_may_merge(kind, merge):
    driver, device, memory = pair(kind, features=IN_ORDER, merge=merge)
    for token in range(3):
        driver.add([], [(0x10, 8)], token)
    driver.publish()
    chains = [device.take() for _ in range(3)]
    device.give(chains[2], 5)
    assert not device.publish()
    assert driver.reap() == []
    device.give(chains[0], 8)
    device.give(chains[1], 8)
    assert device.publish()
    if kind == "packed":
        used = [at for at in range(4) if descriptor(memory, at)[3] & USED]
        assert used == ([0] if merge else [0, 1, 2])
    assert driver.reap() == [(0, 8), (1, 8), (2, 5)]


def test_merging_never_hides_a_short_write():
    driver, device, _ = pair("packed", features=IN_ORDER, merge=True)
    for token in range(3):
        driver.add([], [(0x10, 8)], token)
    driver.publish()
    for written in (8, 4, 8):
        device.give(device.take(), written)
    device.publish()
    assert driver.reap() == [(0, 8), (1, 4), (2, 8)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_notifications_of_the_device(kind, features):
    """After enabling, exactly the publish that brings the next chain notifies; disabled, none does."""
    driver, device, _ = pair(kind, size=8, features=features)
    driver.add([(0, 1)], [], 0)
    driver.publish()
    device.disable_notifications()
    assert device.enable_notifications()
    device.take()
    assert not device.enable_notifications()
    driver.add([(0, 1)], [], 1)
    assert driver.publish()
    driver.add([(0, 1)], [], 2)
    assert driver.publish() == (features == 0)
    device.disable_notifications()
    driver.add([(0, 1)], [], 3)
    assert not driver.publish()
    assert not driver.publish()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_notifications_of_the_driver(kind, features):
    driver, device, _ = pair(kind, size=8, features=features)
    for token in range(4):
        driver.add([(0, 1)], [], token)
    driver.publish()
    assert not driver.enable_notifications()
    device.give(device.take(), 0)
    assert device.publish()
    device.give(device.take(), 0)
    assert device.publish() == (features == 0)
    assert driver.enable_notifications()
    driver.reap()
    driver.enable_notifications()
    driver.disable_notifications()
    device.give(device.take(), 0)
    assert device.publish() == (bool(features) and kind == "split")
    device.give(device.take(), 0)
    assert not device.publish()


def test_notification_data():
    driver, _, _ = pair("packed", size=3, state=QueueState(2, 2, True, True))
    assert driver.notification_data(5) == 5 | 2 << 16 | 1 << 31
    driver.add([(0, 1)], [], 0)
    assert driver.notification_data(5) == 5
    driver, _, _ = pair("split", state=QueueState(0xFFFF, 0xFFFF))
    assert driver.notification_data(5) == 5 | 0xFFFF << 16


def split_fault(*descriptors, head=0, index=1, features=0, size=4):
    """Why the device refuses a chain of these descriptors (address, length, flags, next)."""
    _, device, memory = pair("split", features=features, size=size)
    for at, fields in enumerate(descriptors):
        memory.write(RING + 16 * at, struct.pack("<QIHH", *fields))
    memory.write(DRIVER, struct.pack("<HHH", 0, index, head))
    with pytest.raises(Malformed) as caught:
        device.take()
    return caught.value.reason


def packed_fault(*descriptors, features=0, size=4):
    """Why the device refuses a list of these descriptors (address, length, id, flags)."""
    _, device, memory = pair("packed", features=features, size=size)
    for at, fields in enumerate(descriptors):
        memory.write(RING + 16 * at, struct.pack("<QIHH", *fields))
    with pytest.raises(Malformed) as caught:
        device.take()
    return caught.value.reason


def test_split_faults():
    assert split_fault(index=5) == "INDEX_JUMP"
    assert split_fault(head=4) == "HEAD_BEYOND_SIZE"
    assert split_fault((0, 1, NEXT, 4)) == "HEAD_BEYOND_SIZE"
    assert split_fault((0, 1, NEXT, 0)) == "LOOP"
    assert split_fault((0, 0, 0, 0)) == "LENGTH_ZERO"
    assert split_fault((0x8000, 1, 0, 0)) == "ADDRESS"
    assert split_fault((0x7FFF, 2, 0, 0)) == "ADDRESS"
    assert split_fault((2**64 - 1, 2, 0, 0)) == "ADDRESS_WRAPS"
    assert split_fault((0, 1, NEXT | WRITE, 1), (0, 1, 0, 0)) == "ORDER"
    assert split_fault((0, 16, INDIRECT, 0)) == "INDIRECT_NOT_NEGOTIATED"
    assert split_fault((0, 16, INDIRECT | NEXT, 1), features=INDIRECT_DESC) == "INDIRECT_WITH_NEXT"
    assert split_fault((0, 24, INDIRECT, 0), features=INDIRECT_DESC) == "INDIRECT_SIZE"
    assert split_fault((0, 0, INDIRECT, 0), features=INDIRECT_DESC) == "INDIRECT_SIZE"
    assert split_fault((RING, 16, INDIRECT, 0), features=INDIRECT_DESC) == "INDIRECT_NESTED"


def test_packed_faults():
    assert packed_fault((0, 1, 0, AVAIL | NEXT)) == "PACKED_TRUNCATED"
    assert packed_fault(*[(0, 1, 0, AVAIL | NEXT)] * 4) == "LOOP"
    assert packed_fault((0, 0, 0, AVAIL)) == "LENGTH_ZERO"
    assert packed_fault((0x8000, 1, 0, AVAIL)) == "ADDRESS"
    assert packed_fault((2**64 - 1, 2, 0, AVAIL)) == "ADDRESS_WRAPS"
    assert packed_fault((0, 1, 0, AVAIL | NEXT | WRITE), (0, 1, 0, AVAIL)) == "ORDER"
    assert packed_fault((0, 16, 0, AVAIL | INDIRECT)) == "INDIRECT_NOT_NEGOTIATED"
    indirect = {"features": INDIRECT_DESC}
    assert packed_fault((0, 16, 0, AVAIL | INDIRECT | NEXT), **indirect) == "INDIRECT_WITH_NEXT"
    chained = (0, 1, 0, AVAIL | NEXT), (0, 16, 0, AVAIL | INDIRECT)
    assert packed_fault(*chained, **indirect) == "INDIRECT_WITH_NEXT"
    assert packed_fault((0, 8, 0, AVAIL | INDIRECT), **indirect) == "INDIRECT_SIZE"
    assert packed_fault((0, 16 * 1025, 0, AVAIL | INDIRECT), **indirect) == "LOOP"


def test_long_chains():
    memory = Memory({0: bytearray(0x8000), 1 << 32: bytearray(0)})
    memory.check = lambda address, length: None
    _, device, _ = pair("packed", memory=memory)
    for at, flags in enumerate((AVAIL | NEXT, AVAIL)):
        memory.write(RING + 16 * at, struct.pack("<QIHH", 0, 0x80000001, 0, flags))
    with pytest.raises(Malformed, match="LENGTH_OVERFLOW"):
        device.take()


def test_packed_driver_that_overwrites_what_the_device_holds():
    driver, device, memory = pair("packed", size=2)
    driver.add([(0, 1)], [], 0)
    driver.add([(0, 1)], [], 1)
    driver.publish()
    assert device.take()
    assert device.take()
    memory.write(RING, struct.pack("<QIHH", 0, 1, 0, USED))
    with pytest.raises(Malformed, match="TOO_MANY_OUTSTANDING"):
        device.take()


@pytest.mark.parametrize("kind", KINDS)
def test_devices_that_lie(kind):
    driver, device, _ = pair(kind)
    driver.add([], [(0, 4)], 0)
    driver.publish()
    chain = device.take()
    device.give(chain, 5)
    device.publish()
    with pytest.raises(Malformed, match="USED_LENGTH"):
        driver.reap()
    driver, device, _ = pair(kind)
    driver.add([], [(0, 4)], 0)
    driver.publish()
    chain = device.take()
    chain.id = 3
    device.give(chain, 4)
    device.publish()
    with pytest.raises(Malformed, match="USED_ID"):
        driver.reap()


def test_split_device_that_runs_ahead():
    driver, _, memory = pair("split")
    memory.write(DEVICE, struct.pack("<HH", 0, 1))
    with pytest.raises(Malformed, match="USED_JUMP"):
        driver.reap()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [0, EVENT_IDX, IN_ORDER, IN_ORDER | EVENT_IDX | INDIRECT_DESC])
def test_traffic(kind, features):
    """Hundreds of chains of all shapes: each comes back once, with what was written."""
    dice = random.Random(f"{kind}{features}")
    driver, device, _ = pair(kind, size=8, features=features, merge=dice.random() < 0.5)
    expected, held, reaped, token = {}, [], 0, 0
    while reaped < 600:
        readable = [(dice.randrange(256), dice.randrange(1, 9)) for _ in range(dice.randrange(4))]
        writable = [(dice.randrange(256), 8) for _ in range(dice.randrange(1, 4))]
        short = len(readable) + len(writable) <= driver.table_entries
        indirect = bool(features & INDIRECT_DESC) and short and dice.random() < 0.5
        if driver.add(readable, writable, token, indirect):
            expected[token] = readable, writable
            token += 1
        driver.publish()
        while chain := device.take():
            held.append(chain)
        dice.shuffle(held)
        for _ in range(dice.randrange(len(held) + 1)):
            chain = held.pop()
            device.give(chain, dice.randrange(chain.writable_length + 1))
        device.publish()
        for done, written in driver.reap():
            assert written <= 8 * len(expected.pop(done)[1])
            reaped += 1
    assert driver.state().avail_index == device.state().avail_index


def test_memory():
    memory = Memory({0x10: bytearray(4), 0x14: bytearray(4), 0x20: bytearray(4)})
    memory.write(0x12, b"abcd")
    assert memory.read(0x11, 6) == b"\0abcd\0"
    outside = ((0x0F, 1, "ADDRESS"), (0x17, 2, "ADDRESS"), (2**64 - 1, 2, "ADDRESS_WRAPS"))
    for address, length, reason in outside:
        with pytest.raises(Malformed) as caught:
            memory.read(address, length)
        assert caught.value.reason == reason
    with pytest.raises(Malformed):
        memory.write(0x16, b"abcd")
    assert memory.read(0x16, 2) == b"\0\0"
