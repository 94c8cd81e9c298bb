"""Every way a packed ring can be malformed stops that queue with a name; so does a device that lies."""

import struct

import pytest

from virtio import errors
from virtio.testing.rig import RING_PACKED, Rig, shared_memory

INDIRECT_DESC, IN_ORDER = 1 << 28, 1 << 35
NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 0x80, 0x8000
SIZE = 4


class Hostile:
    """A ring of four descriptors at 0 with memory up to 0x1000, written by hand."""

    def __init__(self, features=0):
        self.rig = Rig(SIZE, RING_PACKED | features, buffer_bytes=0xC00)
        self.memory = shared_memory(self.rig.total)
        self.device = self.rig.device(self.memory)

    def write(self, index, address, length, flags, id=0, table=0):
        self.memory.write(table + 16 * index, struct.pack("<QIHH", address, length, id, flags))

    def refused(self, error):
        """The next chain is malformed, and the queue stays stopped."""
        with pytest.raises(error):
            self.device.pop()
        assert isinstance(self.device.fault_error(), error)
        with pytest.raises(error):
            self.device.pop()
        assert not self.device.is_available()


def test_tables_longer_than_the_queue_are_not_malformed():
    """Linux makes them where the device's limits allow more segments than the queue has descriptors."""
    ring = Hostile(INDIRECT_DESC)
    for index in range(SIZE * 10):
        ring.write(index, index, 1, 0, table=0x200)
    ring.write(0, 0x200, 16 * SIZE * 10, AVAIL | INDIRECT)
    assert ring.device.pop().readable_length == SIZE * 10


@pytest.mark.parametrize(
    ("descriptors", "features", "error"),
    [
        ([(0, 0, AVAIL)], 0, errors.LengthZeroError),
        ([(0x1000, 1, AVAIL)], 0, errors.BufferAddressError),
        ([(0xFFF, 2, AVAIL)], 0, errors.BufferAddressError),
        ([(1 << 63, 1, AVAIL)], 0, errors.BufferAddressError),
        ([(2**64 - 1, 2, AVAIL)], 0, errors.AddressWrapError),
        ([(0, 1, AVAIL | NEXT)], 0, errors.ChainTruncatedError),
        ([(0, 1, AVAIL | NEXT), (0, 1, AVAIL | USED)], 0, errors.ChainTruncatedError),
        ([(0, 1, AVAIL | NEXT), (0, 1, USED)], 0, errors.ChainTruncatedError),
        ([(0, 1, AVAIL | NEXT)] * SIZE, 0, errors.ChainLoopError),
        ([(0, 1, AVAIL | NEXT | WRITE), (0, 1, AVAIL)], 0, errors.ChainOrderError),
        ([(0, 16, AVAIL | INDIRECT)], 0, errors.IndirectUnexpectedError),
        ([(0, 16, AVAIL | INDIRECT | NEXT), (0, 1, AVAIL)], INDIRECT_DESC, errors.IndirectNextError),
        ([(0, 1, AVAIL | NEXT), (0, 16, AVAIL | INDIRECT)], INDIRECT_DESC, errors.IndirectNextError),
        ([(0, 0, AVAIL | INDIRECT)], INDIRECT_DESC, errors.IndirectSizeError),
        ([(0, 17, AVAIL | INDIRECT)], INDIRECT_DESC, errors.IndirectSizeError),
        ([(0, 16 * 1025, AVAIL | INDIRECT)], INDIRECT_DESC, errors.ChainLoopError),
        ([(0, 0xFFFFFFF0, AVAIL | INDIRECT)], INDIRECT_DESC, errors.ChainLoopError),
        ([(2**64 - 16, 32, AVAIL | INDIRECT)], INDIRECT_DESC, errors.AddressWrapError),
        ([(2**64 - 16, 16, AVAIL | INDIRECT)], INDIRECT_DESC, errors.BufferAddressError),
        ([(0xFF8, 16, AVAIL | INDIRECT)], INDIRECT_DESC, errors.BufferAddressError),
    ],
)
def test_malformed_lists(descriptors, features, error):
    ring = Hostile(features)
    for index, fields in enumerate(descriptors):
        ring.write(index, *fields)
    ring.refused(error)


def test_a_good_chain_before_a_bad_one_is_served():
    ring = Hostile()
    ring.write(0, 0x100, 8, AVAIL | WRITE, id=7)
    ring.write(1, 0, 0, AVAIL)
    chain = ring.device.pop()
    ring.refused(errors.LengthZeroError)
    ring.device.push(chain, 8)
    assert ring.device.publish_used()
    assert ring.memory.read(8, 8) == struct.pack("<IHH", 8, 7, AVAIL | USED | WRITE)
    assert ring.device.outstanding == 0


def test_only_write_counts_in_an_indirect_table():
    ring = Hostile(INDIRECT_DESC)
    ring.write(0, 0x800, 32, AVAIL | INDIRECT | WRITE)
    ring.write(0, 0x100, 8, NEXT | INDIRECT | AVAIL, table=0x800)
    ring.write(1, 0x200, 4, WRITE | NEXT | USED, table=0x800)
    chain = ring.device.pop()
    assert (chain.readable_length, chain.writable_length, chain.slots) == (8, 4, 1)


def test_descriptors_made_available_again_before_they_were_used():
    ring = Hostile()
    for index in range(SIZE):
        ring.write(index, 0, 1, AVAIL)
    for _ in range(SIZE):
        assert ring.device.pop()
    assert ring.device.pop() is None
    ring.write(0, 0, 1, USED)
    ring.refused(errors.TooManyChainsError)


@pytest.mark.parametrize("flags", [0, AVAIL | USED, USED])
def test_wrong_wrap_counters_are_not_available(flags):
    ring = Hostile()
    ring.write(0, 0, 0, flags)
    assert not ring.device.is_available()
    assert ring.device.pop() is None
    assert ring.device.fault_error() is None


@pytest.mark.parametrize("features", [0, IN_ORDER])
@pytest.mark.parametrize(
    ("id", "written", "error"),
    [
        (SIZE, 0, errors.UsedIdError),
        (0xFFFF, 0, errors.UsedIdError),
        (1, 0, errors.UsedIdError),
        (0, 9, errors.UsedLengthError),
        (0, 0xFFFFFFFF, errors.UsedLengthError),
    ],
)
def test_devices_that_lie(features, id, written, error):
    ring = Hostile(features)
    driver = ring.rig.driver(ring.memory)
    driver.add_buffers([(0x100, 8)], [(0x200, 8)], 42)
    driver.publish_added()
    ring.write(0, 0, written, AVAIL | USED | WRITE, id=id)
    with pytest.raises(error):
        driver.reap_completions()
    assert isinstance(driver.fault_error(), error)
    with pytest.raises(error):
        driver.reap_completions()
    assert not driver.is_finished()


def test_a_device_that_uses_a_chain_twice():
    ring = Hostile()
    driver = ring.rig.driver(ring.memory)
    for token in range(2):
        driver.add_buffers((), [(0x200, 8)], token)
    driver.publish_added()
    for index in range(2):
        ring.write(index, 0, 4, AVAIL | USED | WRITE, id=1)
    assert driver.reap_completions() == [(1, 4)]
    with pytest.raises(errors.UsedIdError):
        driver.reap_completions()


def test_a_length_without_write_is_ignored():
    ring = Hostile()
    driver = ring.rig.driver(ring.memory)
    driver.add_buffers((), [(0x200, 8)], 5)
    driver.publish_added()
    ring.write(0, 0, 0xFFFFFFFF, AVAIL | USED)
    assert driver.reap_completions() == [(5, 0)]


def test_nothing_outstanding_means_nothing_finished():
    ring = Hostile()
    driver = ring.rig.driver(ring.memory)
    ring.write(0, 0, 0, AVAIL | USED)
    assert not driver.is_finished()
    assert driver.reap_completions() == []
    # Nor is what was added but not published yet.
    driver.add_buffers([(0, 1)])
    assert driver.reap_completions() == []


def test_descriptors_made_available_twice_before_they_were_used():
    """More is given back than the ring holds, and none of it shown: only the ring is written."""
    ring = Hostile()
    behind = ring.memory.read(16 * SIZE, 0x100)
    for chain in range(3 * SIZE + 1):
        lap, index = divmod(chain, SIZE)
        ring.write(index, 0x800, 1, USED if lap % 2 else AVAIL, id=index)
        ring.device.push(ring.device.pop())
    ring.device.publish_used()
    assert ring.memory.read(16 * SIZE, 0x100) == behind
    assert ring.device.fault_error() is None
