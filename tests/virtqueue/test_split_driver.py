"""The driver's end of a split ring: what it writes, and a device that is honest or is not."""

import pytest

from virtio import errors
from virtio.virtqueue import QueueState

NEXT, WRITE, INDIRECT = 1, 2, 4
FEATURE_INDIRECT, FEATURE_EVENT_IDX, FEATURE_IN_ORDER, FEATURE_DATA = 1 << 28, 1 << 29, 1 << 35, 1 << 38


def offer(queue, token, readable=1, writable=1, base=0x90000):
    """A chain of 8-byte buffers; True unless the ring is full."""
    buffers = [(base + 64 * i, 8) for i in range(readable + writable)]
    return queue.add_buffers(buffers[:readable], buffers[readable:], token)


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_what_the_driver_writes(raw_split, byte_order):
    ring = raw_split(byte_order=byte_order)
    queue = ring.driver()
    assert queue.add_buffers([(0x90000, 5), (0x91000, 6)], [(0x92000, 7)], token=77)
    assert ring.avail_index == 0
    assert queue.publish_added()
    assert not queue.publish_added()
    assert (ring.avail_index, ring.available(0)) == (1, 0)
    assert ring.read_descriptor(0) == (0x90000, 5, NEXT, 1)
    assert ring.read_descriptor(1) == (0x91000, 6, NEXT, 2)
    assert ring.read_descriptor(2) == (0x92000, 7, WRITE, 0)
    assert (queue.free_descriptors, queue.outstanding) == (5, 1)
    assert queue.reap_completions() == []
    ring.put_used(0, 0, 7)
    ring.set_used(1)
    assert queue.is_finished()
    assert queue.reap_completions() == [(77, 7)]
    assert (queue.free_descriptors, queue.outstanding) == (8, 0)
    assert queue.state() == QueueState(avail_index=1, used_index=1)


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize(
    "before", [(0x91000, 6, WRITE, 0), (0x90000, 5, WRITE, 0), (0x90000, 6, 0, 0), (0x90000, 6, WRITE, 3)]
)
def test_a_descriptor_that_differs_in_one_field_is_written(raw_split, byte_order, before):
    ring = raw_split(byte_order=byte_order)
    ring.descriptor(0, *before)
    queue = ring.driver()
    assert queue.add_buffers([], [(0x90000, 6)], token=1)
    queue.publish_added()
    assert ring.read_descriptor(0) == (0x90000, 6, WRITE, 0)


def test_a_queue_is_made_once(raw_split):
    ring = raw_split()
    areas = (ring.memory, ring.size, ring.descriptors, ring.driver_area, ring.device_area)
    for queue in (ring.driver(), ring.device()):
        with pytest.raises(TypeError, match="made once"):
            queue.__init__(*areas)


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_indirect_tables(raw_split, byte_order):
    ring = raw_split(byte_order=byte_order)
    tables = 0xA0000
    queue = ring.driver(features=FEATURE_INDIRECT, indirect_tables=tables, indirect_entries=3)
    assert offer(queue, 1, 0, 1)  # one buffer: no table
    assert offer(queue, 2, 1, 2)
    assert offer(queue, 3, 2, 2)  # more than a table holds
    queue.publish_added()
    assert ring.read_descriptor(0) == (0x90000, 8, WRITE, 0)
    mine = tables + 1 * 3 * 16
    assert ring.read_descriptor(1) == (mine, 48, INDIRECT, 0)
    assert [ring.read_descriptor(i, table=mine) for i in range(3)] == [
        (0x90000, 8, NEXT, 1),
        (0x90040, 8, WRITE | NEXT, 2),
        (0x90080, 8, WRITE, 0),
    ]
    assert ring.read_descriptor(2) == (0x90000, 8, NEXT, 3)
    assert queue.free_descriptors == 8 - 1 - 1 - 4


def test_a_full_ring_and_chains_that_cannot_be(raw_split):
    queue = raw_split(size=4).driver()
    assert offer(queue, 1, 3, 0)
    assert not offer(queue, 2, 1, 1)
    assert offer(queue, 3, 1, 0)
    for buffers in ([], [(0x90000, 1)] * 5, [(0x90000, 0)], [(0x90000, 0xFFFFFFFF)] * 2):
        with pytest.raises(errors.UsageError):
            queue.add_buffers(buffers, [], 0)
    assert queue.outstanding == 2


def test_descriptors_freed_out_of_order_are_used_again(raw_split):
    ring = raw_split(size=4)
    queue = ring.driver()
    for token in range(4):
        assert offer(queue, token, 1, 0)
    queue.publish_added()
    for position, head in enumerate([2, 0]):
        ring.put_used(position, head, 0)
    ring.set_used(2)
    assert queue.reap_completions() == [(2, 0), (0, 0)]
    assert offer(queue, 9, 1, 1)
    queue.publish_added()
    head = ring.available(4)
    assert {head, ring.read_descriptor(head)[3]} == {0, 2}


@pytest.mark.parametrize(
    ("used", "index", "error", "number"),
    [
        ([], 3, errors.UsedIndexError, "3"),
        ([], 0xFFFF, errors.UsedIndexError, "65535"),
        ([(8, 0)], 1, errors.UsedIdError, "8"),
        ([(0xFFFFFFFF, 0)], 1, errors.UsedIdError, str(0xFFFFFFFF)),
        ([(1, 0)], 1, errors.UsedIdError, "1"),  # inside a chain, not its head
        ([(0, 9)], 1, errors.UsedLengthError, "9"),
        ([(5, 0)], 1, errors.UsedIdError, "5"),  # free
    ],
)
def test_a_device_that_breaks_the_rules(raw_split, used, index, error, number):
    ring = raw_split()
    queue = ring.driver()
    offer(queue, 1)
    offer(queue, 2)
    queue.publish_added()
    offer(queue, 3)  # not published: it cannot have been used
    for position, (identifier, length) in enumerate(used):
        ring.put_used(position, identifier, length)
    ring.set_used(index)
    for _ in range(2):
        with pytest.raises(error, match=number):
            queue.reap_completions()
    assert isinstance(queue.fault_error(), error)
    assert not queue.is_finished()


def test_a_chain_used_twice(raw_split):
    ring = raw_split()
    queue = ring.driver()
    offer(queue, 1)
    offer(queue, 2)
    queue.publish_added()
    for position in range(2):
        ring.put_used(position, 0, 8)
    ring.set_used(2)
    assert queue.reap_completions() == [(1, 8)]
    with pytest.raises(errors.UsedIdError, match="chain 0"):
        queue.reap_completions()


def test_notifications_by_flag(raw_split):
    ring = raw_split()
    queue = ring.driver()
    ring.set_used_flags(1)
    offer(queue, 1)
    assert not queue.publish_added()
    ring.set_used_flags(0xFFFE)
    offer(queue, 2)
    assert queue.publish_added()
    queue.suppress_notifications()
    assert ring.avail_flags == 1
    assert not queue.request_notifications()
    assert ring.avail_flags == 0


def test_notifications_by_event_index(raw_split):
    ring = raw_split(size=16)
    queue = ring.driver(features=FEATURE_EVENT_IDX)
    expected = []
    for event in (2, 2, 2, 2, 9):
        ring.set_avail_event(event)
        offer(queue, 0, 1, 0)
        expected.append(queue.publish_added())
    assert expected == [False, False, True, False, False]
    for _ in range(5):
        offer(queue, 0, 1, 0)
    assert queue.publish_added()
    ring.put_used(0, 0, 0)
    ring.set_used(1)
    assert queue.request_notifications()
    queue.reap_completions()
    assert not queue.request_notifications()
    assert ring.used_event == 1
    queue.suppress_notifications()
    assert ring.avail_flags == 0


def test_notification_data(raw_split):
    ring = raw_split()
    plain, data = ring.driver(), ring.driver(features=FEATURE_DATA, state=QueueState(0xFFFF, 0xFFFF))
    offer(plain, 1)
    plain.publish_added()
    assert plain.notification_value(5) == 5
    assert data.notification_value(5) == 0xFFFF0005
    offer(data, 1)
    assert data.notification_value(5) == 0xFFFF0005
    data.publish_added()
    assert data.notification_value(5) == 5


def test_in_order_uses_descriptors_in_ring_order(raw_split):
    ring = raw_split(size=4)
    queue = ring.driver(features=FEATURE_IN_ORDER)
    for start, count in [(0, 3), (3, 2), (1, 3)]:
        assert offer(queue, start, count, 0)
        queue.publish_added()
        position = queue.state().avail_index - 1
        assert ring.available(position) == start
        for i in range(count - 1):
            assert ring.read_descriptor((start + i) % 4)[3] == (start + i + 1) % 4
        ring.put_used(position, start, 0)
        ring.set_used(position + 1)
        assert queue.reap_completions() == [(start, 0)]


@pytest.mark.parametrize("limit", [1, 256])
def test_in_order_batches_have_one_used_element(raw_split, limit):
    ring = raw_split()
    queue = ring.driver(features=FEATURE_IN_ORDER)
    for token in range(8):
        assert offer(queue, token, 0, 1)
    queue.publish_added()
    ring.put_used(0, 2, 5)  # chains 0, 1, 2: the last one's length is told, the others are full
    ring.put_used(3, 3, 1)
    ring.put_used(4, 6, 6)
    ring.set_used(7)
    reaped = []
    while more := queue.reap_completions(limit):
        reaped += more
    assert reaped == [(0, 8), (1, 8), (2, 5), (3, 1), (4, 8), (5, 8), (6, 6)]
    ring.put_used(7, 6, 0)
    ring.set_used(8)
    with pytest.raises(errors.UsedIdError, match="chain 6"):
        queue.reap_completions()


def test_an_in_order_batch_cannot_pass_the_used_index(raw_split):
    ring = raw_split()
    queue = ring.driver(features=FEATURE_IN_ORDER)
    for token in range(4):
        offer(queue, token, 0, 1)
    queue.publish_added()
    ring.put_used(0, 2, 8)
    ring.set_used(2)
    with pytest.raises(errors.UsedIdError, match="chain 2"):
        queue.reap_completions()


def test_a_ring_that_cannot_be_there(raw_split):
    ring = raw_split()
    with pytest.raises(errors.RingAreaError, match="indirect tables"):
        ring.driver(features=FEATURE_INDIRECT, indirect_tables=0x10FF00, indirect_entries=8)
    with pytest.raises(errors.UsageError, match="0 entries"):
        ring.driver(features=FEATURE_INDIRECT, indirect_tables=0x90000, indirect_entries=0)
    ring.size = 3
    with pytest.raises(errors.RingAreaError, match="cannot have 3"):
        ring.driver()
