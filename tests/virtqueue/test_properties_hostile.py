"""Rings full of rubbish: the compiled queue ends in chains or a named error, and the model agrees."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from virtio import errors
from virtio.memory import GuestMemory
from virtio.testing.rig import RING_PACKED, Rig, shared_memory
from virtio.virtqueue import model

INDIRECT_DESC, EVENT_IDX, IN_ORDER = 1 << 28, 1 << 29, 1 << 35
# The model's names of what can be wrong, by the exceptions of the compiled queues.
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
    errors.UsedIndexError: "USED_JUMP",
    errors.UsedIdError: "USED_ID",
    errors.UsedLengthError: "USED_LENGTH",
}

features = st.sets(st.sampled_from([INDIRECT_DESC, EVENT_IDX, IN_ORDER])).map(sum)
rigs = st.one_of(
    st.builds(
        Rig,
        size=st.sampled_from([1, 4, 8]),
        features=features,
        byte_order=st.sampled_from(["little", "big"]),
        table_entries=st.just(1),
    ),
    st.builds(
        Rig,
        size=st.sampled_from([1, 3, 8]),
        features=features.map(RING_PACKED.__or__),
        table_entries=st.just(1),
    ),
)


def rubbish(rig, dice, memory):
    """Descriptors everywhere that are nearly right: plausible addresses, lengths, flags and links."""
    edges = [rig.total - 8, rig.total, 2**64 - 8, dice.getrandbits(64)]
    addresses = [rig.buffers, rig.buffers + 255, rig.tables, *edges]
    lengths = [1, 16, 16, 32, 48, 24, 0, 0xFFFFFFFF, dice.getrandbits(32)]
    flags = [0, 1, 2, 3, 4, 5, 6]
    weights = [8, 12, 4, 4, 4, 1, 1]
    for place in range(0, rig.total - 15, 16):
        memory.store(place, 8, dice.choices(addresses, [9, 9, 9, 1, 1, 1, 1])[0])
        memory.store(place + 8, 4, dice.choices(lengths, [9, 9, 9, 9, 9, 1, 1, 1, 1])[0])
        low = dice.choices(flags, weights)[0]
        if rig.packed:
            marks = dice.choices([0x80, 0x8000, 0x8080, 0], [12, 4, 1, 1])[0]
            memory.store(place + 12, 2, dice.getrandbits(16))
            memory.store(place + 14, 2, low | marks)
        else:
            memory.store(place + 12, 2, low)
            link = dice.choices([dice.randrange(rig.size), dice.getrandbits(16)], [9, 1])[0]
            memory.store(place + 14, 2, link)
    if not rig.packed:
        _, driver_area, _ = rig.areas
        memory.store(driver_area + 2, 2, dice.choice([rig.size, 1, 2, rig.size + 1, dice.getrandbits(16)]))
        for entry in range(rig.size):
            head = dice.choices([dice.randrange(rig.size), dice.getrandbits(16)], [15, 1])[0]
            memory.store(driver_area + 4 + 2 * entry, 2, head)


def outcome(take, error):
    """Everything taken until there is no more or it ends in an error, and the error."""
    chains = []
    for _ in range(100):
        try:
            chain = take()
        except error as caught:
            return chains, caught
        if chain is None:
            return chains, None
        chains.append(chain)
    pytest.fail("a queue that never ends")
    return None


@given(rig=rigs, seed=st.integers(0, 2**32), raw=st.booleans())
def test_rubbish_from_a_driver(rig, seed, raw):
    """Chain by chain the same, and in the end the same complaint."""
    dice = random.Random(seed)
    shared = shared_memory(rig.total)
    memory = rig.model_memory(shared.view(0, rig.total))
    if raw:
        memory.write(0, dice.randbytes(rig.total))
    else:
        rubbish(rig, dice, memory)
    device, ideal = rig.device(shared), rig.model_device(memory)
    chains, error = outcome(device.pop, errors.RingError)
    wanted, complaint = outcome(ideal.take, model.Malformed)
    assert [(chain.id, chain.slots, chain.writable_length) for chain in chains] == [
        (chain.id, chain.slots, chain.writable_length) for chain in wanted
    ]
    assert (error and REASONS[type(error)]) == (complaint and complaint.reason)
    for chain in chains:
        device.push(chain)
    device.publish_used()
    assert device.outstanding == 0


@given(rig=rigs, seed=st.integers(0, 2**32), count=st.integers(1, 8))
def test_rubbish_from_a_device(rig, seed, count):
    """The driver's end reports each chain at most once, or names what the device did wrong."""
    dice = random.Random(seed)
    shared = shared_memory(rig.total)
    driver = rig.driver(shared)
    memory = rig.model_memory(shared.view(0, rig.total))
    added = [token for token in range(count) if driver.add_buffers([], [(rig.buffers, 8)], token)]
    driver.publish_added()
    descriptors, _, device_area = rig.areas
    if rig.packed:
        for place in range(descriptors, descriptors + 16 * rig.size, 16):
            memory.store(place + 8, 4, dice.choice([0, 8, 9]))
            memory.store(place + 12, 2, dice.choice([*range(rig.size), rig.size]))
            memory.store(place + 14, 2, dice.choice([0x8080, 0x8082, 0x8082, 0, 0x80]))
    else:
        memory.store(device_area + 2, 2, dice.choice([*range(len(added) + 2), dice.getrandbits(16)]))
        for entry in range(rig.size):
            memory.store(device_area + 4 + 8 * entry, 4, dice.choice([*range(rig.size), rig.size]))
            memory.store(device_area + 8 + 8 * entry, 4, dice.choice([0, 8, 8, 9]))
    reaped = []
    for _ in range(3):
        try:
            reaped += driver.reap_completions()
        except errors.DeviceError as error:
            assert type(error) in REASONS  # noqa: PT017 - one of several is right
            assert driver.fault_error() is not None
    tokens = [token for token, _ in reaped]
    assert len(set(tokens)) == len(tokens)
    assert set(tokens) <= set(added)
    assert all(written <= 8 for _, written in reaped)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("before", [8, 16, 24])
def test_tables_across_regions(packed, before):
    """A table that lies in two regions is read whole; without the second one it is refused."""
    rig = Rig(4, INDIRECT_DESC | (RING_PACKED if packed else 0))
    ring, low, high = (shared_memory(4096).regions[0] for _ in range(3))
    parts = [ring, low.part(0, 2048, guest_address=0x10000), high.part(0, 2048, guest_address=0x10800)]
    memory = model.Memory({part.guest_address: memoryview(part) for part in parts})
    driver = rig.model_driver(memory)
    driver.tables = 0x10800 - before
    memory.write(rig.buffers, b"head")
    memory.write(0x10700, b"tail")
    memory.write(0x10FFC, b"last")
    assert driver.add([(rig.buffers, 4), (0x10700, 4)], [(0x10FFC, 4)], 0, indirect=True)
    driver.publish()
    with pytest.raises(errors.BufferAddressError):
        rig.device(GuestMemory(parts[:2])).pop()
    chain = rig.device(GuestMemory(parts)).pop()
    assert [bytes(view) for view in chain.readable] == [b"head", b"tail"]
    assert [bytes(view) for view in chain.writable] == [b"last"]


def test_a_buffer_across_regions():
    rig = Rig(4, RING_PACKED)
    ring, low, high = (shared_memory(4096).regions[0] for _ in range(3))
    shared = GuestMemory(
        [ring, low.part(0, 2048, guest_address=0x10000), high.part(0, 2048, guest_address=0x10800)]
    )
    shared.write(0x107FC, b"abcdefgh")
    driver = rig.model_driver(rig.model_memory(shared.view(0, rig.total)))
    driver.add([(0x107FC, 8)], [], 0)
    driver.publish()
    assert [bytes(view) for view in rig.device(shared).pop().readable] == [b"abcd", b"efgh"]
