"""The packed ring's two ends against each other and against bytes written by hand."""

import itertools
import os
import struct

import pytest

from virtio import errors
from virtio.memory import GuestMemory, Mapping
from virtio.testing.rig import RING_PACKED, Rig, shared_memory
from virtio.virtqueue import QueueState, packed_layout
from virtio.virtqueue.packed import PackedDeviceQueue
from virtio.virtqueue.packed_driver import PackedDriverQueue

INDIRECT_DESC, EVENT_IDX, IN_ORDER, NOTIFICATION_DATA = 1 << 28, 1 << 29, 1 << 35, 1 << 38
NEXT, WRITE, AVAIL, USED = 1, 2, 0x80, 0x8000


def pair(size, features=0, **options):
    """A rig and both compiled ends in it."""
    rig = Rig(size, RING_PACKED | features, **options)
    memory = shared_memory(rig.total)
    return rig, memory, rig.driver(memory), rig.device(memory)


def descriptor(memory, index):
    return struct.unpack("<QIHH", memory.read(16 * index, 16))


def test_bytes_over_two_laps():
    _, memory, driver, device = pair(3)
    assert driver.add_buffers([(0x10, 1)], [(0x30, 3)], 9)
    assert device.pop() is None
    assert driver.publish_added()
    assert [descriptor(memory, at)[0::3] for at in range(2)] == [(0x10, AVAIL | NEXT), (0x30, AVAIL | WRITE)]
    device.push(device.pop(), 2)
    assert not driver.is_finished()
    assert device.publish_used()
    assert descriptor(memory, 0) == (0x10, 2, 0, AVAIL | USED | WRITE)
    assert driver.reap_completions() == [(9, 2)]
    assert driver.add_buffers([(0x40, 4)], [(0x50, 5)], 8)
    driver.publish_added()
    assert (descriptor(memory, 2)[3], descriptor(memory, 0)[3]) == (AVAIL | NEXT, USED | WRITE)
    device.push(device.pop(), 0)
    device.publish_used()
    assert descriptor(memory, 2)[3] == AVAIL | USED
    assert driver.reap_completions() == [(8, 0)]
    assert driver.state() == device.state() == QueueState(1, 1, False, False)


@pytest.mark.parametrize("size", [1, 2, 3, 100, 255, 32767, 32768])
def test_any_size_can_be_filled_again_and_again(size):
    _, _, driver, device = pair(size)
    for lap in range(3):
        for token in range(size):
            assert driver.add_buffers([(token % 4096, 1)], (), token)
        assert not driver.add_buffers([(0, 1)])
        assert driver.publish_added()
        chains = list(iter(device.pop, None))
        assert len(chains) == size
        for chain in reversed(chains):
            device.push(chain)
        device.publish_used()
        assert driver.reap_completions(size + 1) == [(token, 0) for token in reversed(range(size))]
        assert device.state() == driver.state()
        assert device.state().avail_wrap == bool(lap % 2)


@pytest.mark.parametrize("size", [0, -1, 32769])
def test_impossible_sizes(size):
    memory = shared_memory(1 << 20)
    for kind in (PackedDeviceQueue, PackedDriverQueue):
        with pytest.raises((errors.RingAreaError, OverflowError)):
            kind(memory, size, 0, 0x80000, 0x80004)


@pytest.mark.parametrize(
    "areas", [(8, 0x100, 0x104), (0, 0x102, 0x104), (0, 0x100, 0x106), (0, 1 << 20, 0x104)]
)
def test_impossible_places(areas):
    memory = shared_memory(4096)
    for kind in (PackedDeviceQueue, PackedDriverQueue):
        with pytest.raises(errors.RingAreaError):
            kind(memory, 4, *areas)


@pytest.mark.parametrize("state", [QueueState(4, 0), QueueState(0, 4)])
def test_a_state_beyond_the_ring(state):
    rig = Rig(4, RING_PACKED)
    memory = shared_memory(rig.total)
    for end in (rig.device, rig.driver):
        with pytest.raises(errors.UsageError):
            end(memory, state)


def test_state_goes_on_elsewhere():
    rig, memory, driver, device = pair(3)
    for token in range(5):
        driver.add_buffers([(0, 1)], (), token)
        driver.publish_added()
        device.push(device.pop())
        device.publish_used()
        driver.reap_completions()
        device = rig.device(memory, device.state())
        driver = rig.driver(memory, driver.state())
    assert device.state() == QueueState(2, 2, False, False)


def test_reset():
    rig, memory, driver, device = pair(3)
    driver.add_buffers([(0, 1)])
    driver.publish_added()
    chain = device.pop()
    with pytest.raises(errors.UsageError, match="outstanding"):
        device.reset()
    device.push(chain)
    device.reset()
    assert device.state() == QueueState()
    driver = rig.driver(memory)
    assert device.pop() is None
    driver.add_buffers([(0, 1)])
    driver.publish_added()
    device.push(device.pop())
    device.publish_used()
    assert driver.reap_completions() == [(0, 0)]


def test_indirect_tables_take_one_descriptor():
    _, _, driver, device = pair(4, INDIRECT_DESC, table_entries=3)
    for token in range(4):
        assert driver.add_buffers([(0, 1), (16, 2)], [(32, 3)], token)
    assert driver.free_descriptors == 0
    driver.publish_added()
    chains = list(iter(device.pop, None))
    shapes = [(chain.readable_length, chain.writable_length, chain.slots) for chain in chains]
    assert shapes == [(3, 3, 1)] * 4
    for chain in chains:
        device.push(chain)
    device.publish_used()
    assert len(driver.reap_completions()) == 4
    # One buffer, or more than a table holds, go directly.
    driver.add_buffers([(0, 1)])
    assert driver.free_descriptors == 3
    short = pair(4, INDIRECT_DESC, table_entries=2)[2]
    short.add_buffers([(0, 1)] * 3)
    assert short.free_descriptors == 1


@pytest.mark.parametrize("buffers", [[], [(0, 1)] * 5, [(0, 0)], [(0, 0xFFFFFFFF)] * 2])
def test_chains_that_cannot_be_offered(buffers):
    driver = pair(4)[2]
    with pytest.raises(errors.UsageError):
        driver.add_buffers(buffers)
    assert driver.free_descriptors == 4


def test_in_order_gives_back_in_turn():
    _, _, driver, device = pair(4, IN_ORDER)
    for token in range(3):
        driver.add_buffers((), [(0, 8)], token)
    driver.publish_added()
    chains = list(iter(device.pop, None))
    device.push(chains[2], 2)
    device.push(chains[1], 1)
    assert not device.publish_used()
    assert not driver.is_finished()
    device.push(chains[0])
    assert device.publish_used()
    assert driver.reap_completions() == [(0, 0), (1, 1), (2, 2)]


def test_in_order_driver_accepts_one_used_descriptor_for_a_batch():
    _, memory, driver, _ = pair(4, IN_ORDER)
    for token in range(3):
        driver.add_buffers((), [(0, 8 + token)], token)
    driver.publish_added()
    memory.write(0, struct.pack("<QIHH", 0, 5, 2, AVAIL | USED | WRITE))
    assert driver.is_finished()
    assert driver.reap_completions(2) == [(0, 8), (1, 9)]
    assert driver.is_finished()
    assert driver.reap_completions() == [(2, 5)]
    assert not driver.is_finished()
    assert driver.state().used_index == 3


def test_out_of_order_ids_are_skipped_by_their_own_length():
    _, memory, driver, device = pair(5)
    driver.add_buffers([(0, 1)], (), 1)
    driver.add_buffers([(0, 1)] * 3, (), 3)
    driver.publish_added()
    short, long = list(iter(device.pop, None))
    device.push(long)
    device.push(short)
    device.publish_used()
    assert [descriptor(memory, at)[2:] for at in (0, 3)] == [(1, AVAIL | USED), (0, AVAIL | USED)]
    assert driver.reap_completions() == [(3, 0), (1, 0)]


def test_buffer_ids_of_any_value_are_echoed():
    _, memory, _, device = pair(2)
    memory.write(0, struct.pack("<QIHH", 0, 1, 0xFFFF, AVAIL))
    chain = device.pop()
    assert chain.id == 0xFFFF
    device.push(chain)
    device.publish_used()
    assert descriptor(memory, 0)[2] == 0xFFFF


def test_a_batch_shows_all_at_once():
    _, memory, driver, device = pair(4)
    for token in range(3):
        driver.add_buffers([(0, 1)], (), token)
    assert not device.is_available()
    driver.publish_added()
    for chain in list(iter(device.pop, None)):
        device.push(chain)
    assert descriptor(memory, 0)[3] == AVAIL
    device.publish_used()
    assert [descriptor(memory, at)[3] for at in range(3)] == [AVAIL | USED] * 3


def test_notification_data():
    _, _, driver, device = pair(3, NOTIFICATION_DATA)
    assert driver.notification_value(5) == 1 << 31 | 5
    driver.add_buffers([(0, 1)] * 2)
    assert driver.notification_value(5) == 1 << 31 | 5
    driver.publish_added()
    assert driver.notification_value(5) == 1 << 31 | 2 << 16 | 5
    device.push(device.pop())
    device.publish_used()
    driver.reap_completions()
    driver.add_buffers([(0, 1)])
    driver.publish_added()
    assert driver.notification_value(5) == 5
    assert pair(3)[2].notification_value(5) == 5


def expected(events, event_idx, start, steps, size):
    """Does an event structure ask for a notification (virtio 1.4, 2.8.10)? Positions counted one by one."""
    flags = events >> 16 & 3
    if flags == 1:
        return False
    if flags != 2 or not event_idx or events & 0x7FFF >= size:
        return True
    places = [((start + step) % size, 1 - (start + step) // size % 2) for step in range(steps)]
    return (events & 0x7FFF, events >> 15 & 1) in places


@pytest.mark.parametrize("side", ["device", "driver"])
@pytest.mark.parametrize("features", [0, EVENT_IDX])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_event_position(side, features, size):
    """For each place to stand at and each batch, each thing the other side can ask for."""
    asks = itertools.product((0, 1, 2, 3), (0, 1), range(size + 1))
    words = [flags << 16 | wrap << 15 | at for flags, wrap, at in asks]
    for start, steps, events in itertools.product(range(2 * size), range(1, size + 1), words):
        rig, memory, driver, device = pair(size, features)
        for _ in range(start):
            driver.add_buffers([(0, 1)])
            driver.publish_added()
            device.push(device.pop())
            device.publish_used()
            driver.reap_completions()
        memory.write(rig.areas[1 if side == "device" else 2], struct.pack("<I", events))
        for _ in range(steps):
            driver.add_buffers([(0, 1)])
        asked = driver.publish_added()
        if side == "device":
            for chain in list(iter(device.pop, None)):
                device.push(chain)
            asked = device.publish_used()
        assert asked == expected(events, features, start, steps, size), (start, steps, hex(events))


def test_what_each_side_asks_for():
    for features, word in ((0, 1 << 15), (EVENT_IDX, 2 << 16 | 1 << 15)):
        rig, memory, driver, device = pair(3, features)
        for end, area in ((driver, rig.areas[1]), (device, rig.areas[2])):
            end.suppress_notifications()
            assert memory.read(area, 4) == struct.pack("<I", 1 << 16)
            assert not end.request_notifications()
            assert memory.read(area, 4) == struct.pack("<I", word)


def test_layout_is_what_the_queue_needs():
    sizes = packed_layout(5)
    assert (sizes.descriptors, sizes.driver_area, sizes.device_area) == (80, 4, 4)


def test_dirty_log_records_the_ring_and_the_buffers():
    _, memory, driver, device = pair(4, buffer_bytes=0x3000)
    fd = os.memfd_create("log")
    os.ftruncate(fd, 4096)
    logged = memory.with_log(fd, 64)
    device.set_memory(logged)
    driver.add_buffers((), [(0x2000, 8)])
    driver.publish_added()
    device.push(device.pop(), 8)
    device.publish_used()
    assert os.pread(fd, 1, 0) == bytes([0b101])
    os.close(fd)


def test_memory_that_vanishes_stops_the_queue():
    fd = os.memfd_create("vanishing")
    os.ftruncate(fd, 8192)
    memory = GuestMemory([Mapping.from_fd(fd, 8192)])
    device = PackedDeviceQueue(memory, 4, 4096, 4096 + 64, 4096 + 68)
    memory.write(4096, struct.pack("<QIHH", 0, 1, 0, AVAIL))
    os.ftruncate(fd, 4096)
    os.close(fd)
    with pytest.raises(errors.MemoryGoneError):
        device.pop()
    assert device.outstanding == 0
