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
