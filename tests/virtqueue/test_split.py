"""The device's end of a split ring against a ring written by hand."""

import pytest

from virtio import errors
from virtio.virtqueue import QueueState

NEXT, WRITE, INDIRECT = 1, 2, 4
FEATURE_INDIRECT, FEATURE_EVENT_IDX, FEATURE_IN_ORDER, FEATURE_NOTIFY_ON_EMPTY = (
    1 << 28,
    1 << 29,
    1 << 35,
    1 << 24,
)


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_chain_is_read_written_and_given_back(raw_split, byte_order, legacy):
    ring = raw_split(byte_order=byte_order, legacy=legacy)
    queue = ring.device()
    assert queue.pop() is None
    ring.memory.write(ring.data, b"question")
    ring.chain(3, [(ring.data, 8, 0), (ring.data + 0x1000, 6, WRITE)])
    ring.offer(3)
    assert queue.is_available()
    chain = queue.pop()
    assert (chain.id, chain.slots, chain.readable_length, chain.writable_length) == (3, 2, 8, 6)
    assert [bytes(view) for view in chain.readable] == [b"question"]
    assert chain.readable[0].readonly
    chain.writable[0][:] = b"answer"
    assert queue.outstanding == 1
    queue.push(chain, 6)
    assert ring.used_index == 0
    assert queue.publish_used()
    assert (ring.used_index, ring.used(0)) == (1, (3, 6))
    assert ring.memory.read(ring.data + 0x1000, 6) == b"answer"
    assert queue.outstanding == 0
    assert queue.pop() is None
    assert queue.state() == QueueState(avail_index=1, used_index=1)
    with pytest.raises(errors.UsageError):
        queue.push(chain, 0)


def complete(ring, queue, *heads):
    """Offer one-byte chains, take them, give them back; what `publish_used` says."""
    for head in heads:
        ring.chain(head, [(ring.data, 1, 0)])
    ring.offer(*heads)
    for _ in heads:
        queue.push(queue.pop())
    return queue.publish_used()


def test_publishing_nothing_notifies_nobody(raw_split):
    assert not raw_split().device().publish_used()


def test_adjacent_buffers_are_joined(raw_split):
    ring = raw_split()
    queue = ring.device()
    ring.chain(
        0,
        [
            (ring.data, 16, 0),
            (ring.data + 16, 16, 0),
            (ring.data + 32, 16, WRITE),
            (ring.data + 48, 1, WRITE),
        ],
    )
    ring.offer(0)
    chain = queue.pop()
    assert [len(view) for view in chain.readable] == [32]
    assert [len(view) for view in chain.writable] == [17]
    assert chain.slots == 4


def test_a_buffer_across_regions_is_cut(raw_split, guest_memory):
    other = guest_memory(size=0x1000, base=0x110000).regions[0]
    ring = raw_split(memory=guest_memory().add(other))
    queue = ring.device()
    ring.memory.write(0x10FFF8, b"12345678abcdefgh")
    ring.descriptor(0, 0x10FFF8, 16)
    ring.offer(0)
    assert b"".join(queue.pop().readable) == b"12345678abcdefgh"


def test_many_segments(raw_split):
    ring = raw_split(size=256)
    queue = ring.device()
    buffers = [(ring.data + 64 * i, 32, 0 if i < 100 else WRITE) for i in range(256)]
    ring.chain(0, buffers)
    for _ in range(2):
        ring.offer(0)
        chain = queue.pop()
        assert (len(chain.readable), len(chain.writable), chain.slots) == (100, 156, 256)
        queue.push(chain, 156 * 32)


@pytest.mark.parametrize("direct", [0, 2])
@pytest.mark.parametrize("alignment", [0, 1, 8])
def test_indirect_after_direct_descriptors(raw_split, direct, alignment):
    ring = raw_split()
    queue = ring.device(features=FEATURE_INDIRECT)
    table = ring.data + 0x4000 + alignment
    for i in range(direct):
        ring.descriptor(i, ring.data + 64 * i, 1, NEXT, i + 1)
    # The write-only flag of a descriptor that refers to a table means nothing.
    ring.descriptor(direct, table, 48, INDIRECT | WRITE)
    ring.descriptor(0, ring.data + 0x1000, 10, NEXT, 2, table=table)
    ring.descriptor(2, ring.data + 0x2000, 20, WRITE, 0, table=table)
    ring.offer(0)
    chain = queue.pop()
    assert [len(view) for view in chain.readable] == [1] * direct + [10]
    assert [len(view) for view in chain.writable] == [20]
    assert chain.slots == direct + 1


@pytest.mark.parametrize("direct", [0, 2])
def test_an_indirect_table_may_be_longer_than_the_queue(raw_split, direct):
    """As Linux makes them where the device's limits allow more segments than the queue has descriptors."""
    ring = raw_split(size=4)
    queue = ring.device(features=FEATURE_INDIRECT)
    count = 1024 - direct
    for i in range(count):
        bits = NEXT if i + 1 < count else 0
        ring.descriptor(i, ring.data + i, 1, bits, i + 1, table=ring.data + 0x4000)
    for i in range(direct):
        ring.descriptor(i, ring.data, 1, NEXT, i + 1)
    ring.descriptor(direct, ring.data + 0x4000, 16 * count, INDIRECT, 0)
    ring.offer(0)
    assert queue.pop().readable_length == 1024


def test_an_indirect_table_across_regions(raw_split, guest_memory):
    other = guest_memory(size=0x1000, base=0x110000).regions[0]
    ring = raw_split(memory=guest_memory().add(other))
    queue = ring.device(features=FEATURE_INDIRECT)
    table = 0x110000 - 24  # the second descriptor lies in both regions
    ring.chain(0, [(ring.data, 5, 0), (ring.data + 64, 6, 0), (ring.data + 128, 7, WRITE)], table=table)
    ring.descriptor(0, table, 48, INDIRECT)
    ring.offer(0)
    chain = queue.pop()
    assert ([len(view) for view in chain.readable], [len(view) for view in chain.writable]) == ([5, 6], [7])


@pytest.mark.parametrize("size", [1, 2, 32768])
def test_indexes_wrap(raw_split, size, guest_memory):
    ring = raw_split(size=size, memory=guest_memory(size=0x200000))
    ring.data = 0x10000 + 0x180000
    start = 0xFFFE
    ring.index = start
    ring.memory.write(ring.device_area + 2, ring.pack("H", start))
    queue = ring.device(state=QueueState(avail_index=start))
    for i in range(5):
        head = (start + i) % size
        assert complete(ring, queue, head)
        assert ring.used_index == (start + i + 1) & 0xFFFF
        assert ring.used(start + i) == (head, 0)
    assert queue.state() == QueueState(avail_index=3, used_index=3)


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_restore_reads_the_used_index_from_the_ring(raw_split, byte_order):
    ring = raw_split(byte_order=byte_order)
    queue = ring.device(features=FEATURE_EVENT_IDX)
    ring.set_used_event(100)
    for head in range(3):
        complete(ring, queue, head)
    later = ring.device(features=FEATURE_EVENT_IDX, state=QueueState(avail_index=3, used_index=77))
    assert later.state() == QueueState(avail_index=3, used_index=3)
    assert not later.is_available()
    # It cannot know what the driver was told before, so it tells it once.
    assert complete(ring, later, 3)
    assert not complete(ring, later, 4)
    assert ring.used_index == 5


def test_reset_begins_anew(raw_split):
    ring = raw_split()
    queue = ring.device()
    ring.descriptor(0, ring.data, 1)
    ring.offer(0)
    chain = queue.pop()
    with pytest.raises(errors.UsageError, match="1 chains outstanding"):
        queue.reset()
    queue.push(chain)
    ring.offer(8)
    with pytest.raises(errors.DescriptorIndexError):
        queue.pop()
    queue.reset()
    assert queue.fault_error() is None
    assert queue.state() == QueueState()
    again = raw_split(memory=ring.memory)
    ring.memory.write(ring.device_area, bytes(4))
    assert complete(again, queue, 5)
    assert again.used(0) == (5, 0)


def test_flags_suppress_notifications(raw_split):
    ring = raw_split()
    queue = ring.device()
    assert complete(ring, queue, 0)
    ring.set_flags(1)
    assert not complete(ring, queue, 1)
    ring.set_flags(0xFFFE)
    assert complete(ring, queue, 2)
    queue.suppress_notifications()
    assert ring.used_flags == 1
    assert not queue.request_notifications()
    assert ring.used_flags == 0
    ring.descriptor(3, ring.data, 1)
    ring.offer(3)
    assert queue.request_notifications()


def test_notify_on_empty(raw_split):
    ring = raw_split()
    queue = ring.device(features=FEATURE_NOTIFY_ON_EMPTY)
    ring.set_flags(1)
    for head in (0, 1):
        ring.descriptor(head, ring.data, 1)
    ring.offer(0, 1)
    queue.push(queue.pop())
    assert not queue.publish_used()
    queue.push(queue.pop())
    assert queue.publish_used()


@pytest.mark.parametrize("start", [0, 0xFFFA])
def test_the_event_index_counts_over_batches(raw_split, start):
    ring = raw_split(size=16)
    ring.index = start
    ring.memory.write(ring.device_area + 2, ring.pack("H", start))
    queue = ring.device(features=FEATURE_EVENT_IDX, state=QueueState(avail_index=start))
    complete(ring, queue, 0)
    done = start + 1
    for event, batch, expected in [
        (done + 3, 3, False),  # used index reaches event: not yet passed
        (done + 3, 1, True),  # passes it
        (done + 3, 4, False),  # already passed, long ago
        (done + 9, 4, True),  # in the middle of a batch
        (done + 11, 8, False),  # one behind the batch's beginning
        (done + 27, 8, True),  # the batch's last
    ]:
        ring.set_used_event(event)
        assert complete(ring, queue, *range(batch)) is expected, (event - start, batch)


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_requests_for_notifications_by_event_index(raw_split, byte_order):
    ring = raw_split(byte_order=byte_order)
    queue = ring.device(features=FEATURE_EVENT_IDX)
    complete(ring, queue, 0, 1, 2)
    assert ring.avail_event == 0
    assert not queue.request_notifications()
    assert ring.avail_event == 3
    queue.suppress_notifications()
    assert (ring.used_flags, ring.avail_event) == (0, 3)


def test_in_order_completions_wait_for_their_turn(raw_split):
    ring = raw_split()
    queue = ring.device(features=FEATURE_IN_ORDER)
    for head in range(4):
        ring.descriptor(head, ring.data + 64 * head, 8, WRITE)
    ring.offer(0, 1, 2, 3)
    chains = [queue.pop() for _ in range(4)]
    queue.push(chains[2], 2)
    queue.push(chains[1], 1)
    assert not queue.publish_used()
    queue.push(chains[0], 8)
    assert queue.publish_used()
    assert ring.used_index == 3
    assert [ring.used(i) for i in range(3)] == [(0, 8), (1, 1), (2, 2)]
    assert queue.outstanding == 1
    queue.push(chains[3], 3)
    queue.publish_used()
    assert ring.used(3) == (3, 3)


def test_misuse_from_python_is_told(raw_split):
    ring = raw_split()
    queue, other = ring.device(), raw_split().device()
    ring.descriptor(0, ring.data, 4, WRITE)
    ring.offer(0)
    chain = queue.pop()
    with pytest.raises(errors.UsageError, match="5 bytes"):
        queue.push(chain, 5)
    with pytest.raises(errors.UsageError, match="another queue"):
        other.push(chain, 4)
    queue.push(chain, 4)
    with pytest.raises(errors.UsageError, match="given back"):
        chain.writable  # noqa: B018 - the property raises


def test_views_outlive_queue_and_memory(raw_split):
    ring = raw_split()
    queue = ring.device()
    ring.memory.write(ring.data, b"still here")
    ring.descriptor(0, ring.data, 10)
    ring.offer(0)
    (view,) = queue.pop().readable
    del queue, ring
    assert bytes(view) == b"still here"


def test_a_chain_keeps_its_memory_when_the_table_changes(raw_split, guest_memory):
    extra = guest_memory(size=0x1000, base=0x200000).regions[0]
    ring = raw_split()
    queue = ring.device()
    before = ring.memory
    queue.set_memory(before.add(extra))
    ring.memory = queue.memory
    ring.memory.write(0x200000, b"plugged")
    ring.descriptor(0, 0x200000, 7)
    ring.descriptor(1, 0x200000, 7, WRITE)
    ring.offer(0, 1)
    first, second = queue.pop(), queue.pop()
    queue.set_memory(before)
    del extra
    ring.memory = before
    assert bytes(first.readable[0]) == b"plugged"
    second.writable[0][:] = b"removed"
    queue.push(first)
    queue.push(second, 7)
    queue.publish_used()
    assert ring.used_index == 2
    ring.descriptor(2, 0x200000, 7)
    ring.offer(2)
    with pytest.raises(errors.BufferAddressError):
        queue.pop()
    with pytest.raises(errors.RingAreaError):
        queue.set_memory(guest_memory(base=0x40000000))
