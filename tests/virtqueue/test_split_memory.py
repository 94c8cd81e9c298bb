"""What becomes of a split ring when the memory beneath it is logged, translated or gone."""

import os

import pytest

from virtio import errors
from virtio.memory import GuestMemory, Iotlb, Mapping

WRITE, INDIRECT = 2, 4
FEATURE_INDIRECT, FEATURE_EVENT_IDX = 1 << 28, 1 << 29
USER = 0x7F0000000000


@pytest.fixture
def file_memory():
    """Memory whose file the test can shrink: (memory, fd)."""
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 0x100000)
    yield GuestMemory([Mapping.from_fd(fd, 0x100000, guest_address=0x10000, user_address=USER)]), fd
    os.close(fd)


def dirty(fd):
    data = os.pread(fd, 64, 0)
    return {i for i in range(512) if data[i // 8] >> (i % 8) & 1}


def test_what_the_device_writes_is_logged(raw_split):
    log = os.memfd_create("log")
    os.ftruncate(log, 64)
    ring = raw_split(size=512)
    # The used ring on pages of its own, so that its bits tell.
    ring.device_area = 0x20000
    plain = ring.memory
    queue = ring.device(features=FEATURE_EVENT_IDX)
    ring.chain(0, [(ring.data, 0x1000, 0), (ring.data + 0x3800, 0x1000, WRITE)])
    ring.offer(0)
    queue.set_memory(plain.with_log(log, 64))
    chain = queue.pop()
    assert dirty(log) == set()
    queue.push(chain, 0x1000)
    page = (ring.data >> 12) + 3
    assert dirty(log) == {page, page + 1}
    os.pwrite(log, bytes(64), 0)
    queue.publish_used()
    assert dirty(log) == {0x20}
    os.pwrite(log, bytes(64), 0)
    queue.request_notifications()
    assert dirty(log) == {0x21}  # avail_event lies behind 512 elements of 8 bytes
    os.close(log)


def test_a_ring_whose_memory_vanished_stops(raw_split, file_memory):
    memory, fd = file_memory
    ring = raw_split(memory=memory)
    queue = ring.device()
    ring.chain(0, [(ring.data, 8, 0)])
    ring.offer(0)
    os.ftruncate(fd, 0)
    with pytest.raises(errors.MemoryGoneError):
        queue.pop()
    with pytest.raises(errors.MemoryGoneError):
        queue.pop()
    assert queue.outstanding == 0


def test_a_buffer_that_vanished_stops_the_next_take(raw_split, file_memory):
    memory, fd = file_memory
    ring = raw_split(memory=memory)
    queue = ring.device()
    ring.chain(0, [(ring.data, 8, 0)])
    ring.chain(1, [(ring.data, 8, 0)])
    ring.offer(0)
    chain = queue.pop()
    os.ftruncate(fd, 0x40000)
    assert bytes(chain.readable[0]) == bytes(8)
    queue.push(chain)
    assert queue.publish_used()
    ring.offer(1)
    with pytest.raises(errors.MemoryGoneError):
        queue.pop()


def test_the_driver_sees_vanished_memory_too(raw_split, file_memory):
    memory, fd = file_memory
    queue = raw_split(memory=memory).driver()
    queue.add_buffers([(0x90000, 8)], [], 1)
    queue.publish_added()
    os.ftruncate(fd, 0)
    with pytest.raises(errors.MemoryGoneError):
        queue.reap_completions()


@pytest.fixture
def translated(raw_split, file_memory):
    """A ring, its memory's I/O TLB that knows the ring alone, and the queue."""
    ring = raw_split(memory=file_memory[0])
    iotlb = Iotlb(file_memory[0])
    iotlb.update(0x10000, 0x1000, USER)
    physical = ring.memory
    ring.memory = iotlb.snapshot()
    queue = ring.device(features=FEATURE_INDIRECT)
    ring.memory = physical
    return ring, iotlb, queue


def test_a_miss_consumes_nothing(translated):
    ring, iotlb, queue = translated
    ring.memory.write(0x98000, b"found")
    ring.chain(0, [(0x500000, 5, 0), (0x501000, 5, WRITE)])
    ring.offer(0)
    for _ in range(2):
        with pytest.raises(errors.IotlbMissError, match="0x500000"):
            queue.pop()
        assert queue.iotlb_miss == (0x500000, False)
    assert queue.fault_error() is None
    assert queue.is_available()
    assert queue.state().avail_index == 0
    iotlb.update(0x500000, 0x1000, USER + 0x88000, writable=False)
    queue.set_memory(iotlb.snapshot())
    with pytest.raises(errors.IotlbMissError, match="0x501000"):
        queue.pop()
    assert queue.iotlb_miss == (0x501000, True)
    iotlb.update(0x501000, 0x1000, USER + 0x90000, readable=False)
    queue.set_memory(iotlb.snapshot())
    chain = queue.pop()
    assert queue.iotlb_miss is None
    assert bytes(chain.readable[0]) == b"found"
    chain.writable[0][:] = b"there"
    assert ring.memory.read(0xA0000, 5) == b"there"


def test_a_permission_that_lacks_is_a_miss(translated):
    ring, iotlb, queue = translated
    iotlb.update(0x500000, 0x1000, USER + 0x88000, writable=False)
    queue.set_memory(iotlb.snapshot())
    ring.descriptor(0, 0x500000, 5, WRITE)
    ring.offer(0)
    with pytest.raises(errors.IotlbMissError):
        queue.pop()
    assert queue.iotlb_miss == (0x500000, True)


def test_an_indirect_table_may_be_missed(translated):
    ring, iotlb, queue = translated
    ring.chain(0, [(0x10800, 5, 0), (0x10900, 6, WRITE)], table=0x98000 - 16)
    ring.descriptor(0, 0x600000 - 16, 32, INDIRECT)
    ring.offer(0)
    for page, user in ((0x5FF000, USER + 0x87000), (0x600000, USER + 0x88000)):
        with pytest.raises(errors.IotlbMissError):
            queue.pop()
        assert queue.iotlb_miss == (max(page, 0x600000 - 16), False)
        iotlb.update(page, 0x1000, user)
        queue.set_memory(iotlb.snapshot())
    chain = queue.pop()
    assert (chain.readable_length, chain.writable_length) == (5, 6)
