"""Every way in which a driver can get a split ring wrong: a named error on that queue, and nothing else."""

import pytest

from virtio import errors
from virtio.memory import GuestMemory

NEXT, WRITE, INDIRECT = 1, 2, 4
FEATURE_INDIRECT = 1 << 28
TABLE = 0x4000  # bytes into the ring's data


def one(address, length, flags=0, following=0):
    def prepare(ring):
        ring.descriptor(0, ring.data + address if address < 0x100000 else address, length, flags, following)
        ring.offer(0)

    return prepare


def table(*descriptors, length=None, flags=INDIRECT):
    """An indirect table of (address offset, length, flags, next) in descriptor 0."""

    def prepare(ring):
        for i, (address, size, bits, following) in enumerate(descriptors):
            ring.descriptor(i, ring.data + address, size, bits, following, table=ring.data + TABLE)
        ring.descriptor(0, ring.data + TABLE, 16 * len(descriptors) if length is None else length, flags, 1)
        ring.offer(0)

    return prepare


def index_jump(ring):
    ring.set_available(ring.size + 1)


def index_backwards(ring):
    ring.set_available(0xFFFF)


def head_beyond(ring):
    ring.offer(ring.size)


def self_loop(ring):
    ring.descriptor(0, ring.data, 1, NEXT, 0)
    ring.offer(0)


def long_loop(ring):
    ring.chain(0, [(ring.data, 1, 0)] * ring.size)
    ring.descriptor(ring.size - 1, ring.data, 1, NEXT, 2)
    ring.offer(0)


def order(ring):
    ring.chain(0, [(ring.data, 1, WRITE), (ring.data + 64, 1, 0)])
    ring.offer(0)


def four_gigabytes(ring):
    """No one buffer is too long, their sum is: the same bytes again and again."""
    ring.chain(0, [(0x1000000000, 0xC0000000, 0)] * 2)
    ring.offer(0)


def indirect_order(ring):
    table((0, 8, WRITE | NEXT, 1), (64, 8, 0, 0))(ring)


def many_indirect(ring):
    count = 1025
    table(*[(0, 8, NEXT if i + 1 < count else 0, i + 1) for i in range(count)])(ring)


CASES = {
    "index-jump": (index_jump, errors.IndexJumpError, "9"),
    "index-backwards": (index_backwards, errors.IndexJumpError, "65535"),
    "head-beyond-size": (head_beyond, errors.DescriptorIndexError, "8"),
    "next-beyond-size": (one(0, 8, NEXT, 8), errors.DescriptorIndexError, "8"),
    "next-far-beyond-size": (one(0, 8, NEXT, 0xFFFF), errors.DescriptorIndexError, "65535"),
    "loop-on-itself": (self_loop, errors.ChainLoopError, "descriptor 0"),
    "loop-of-all": (long_loop, errors.ChainLoopError, "8 descriptors"),
    "address-outside": (one(0x200000, 8), errors.BufferAddressError, "0x200000"),
    "address-below": (one(1 << 63, 8), errors.BufferAddressError, hex(1 << 63)),
    "tail-outside": (one(0x7FFF8, 1 << 20), errors.BufferAddressError, "0x110000"),
    "address-wraps": (one(2**64 - 8, 9), errors.AddressWrapError, hex(2**64 - 8)),
    "address-wraps-to-memory": (one(2**64 - 8, 0x20000), errors.AddressWrapError, hex(2**64 - 8)),
    "zero-length": (one(0, 0), errors.LengthZeroError, "0x90000"),
    "zero-length-at-0": (one(1 << 60, 0, WRITE), errors.LengthZeroError, hex(1 << 60)),
    "readable-after-writable": (order, errors.ChainOrderError, "0x90040"),
    "indirect-order": (indirect_order, errors.ChainOrderError, "0x90040"),
    "indirect-with-next": (
        table((0, 8, 0, 0), flags=INDIRECT | NEXT),
        errors.IndirectNextError,
        "descriptor 0",
    ),
    "indirect-of-nothing": (table((0, 8, 0, 0), length=0), errors.IndirectSizeError, "0 bytes"),
    "indirect-of-15": (table((0, 8, 0, 0), length=15), errors.IndirectSizeError, "15 bytes"),
    "indirect-of-24": (table((0, 8, 0, 0), length=24), errors.IndirectSizeError, "24 bytes"),
    "indirect-nested": (table((TABLE, 16, INDIRECT, 0)), errors.IndirectNestedError, "0x94000"),
    "indirect-nested-later": (
        table((0, 8, NEXT, 1), (TABLE, 16, INDIRECT, 0)),
        errors.IndirectNestedError,
        "0x94000",
    ),
    "indirect-next-beyond": (table((0, 8, NEXT, 1)), errors.DescriptorIndexError, "1"),
    "indirect-loop": (table((0, 8, NEXT, 0)), errors.ChainLoopError, "8 descriptors"),
    "indirect-too-long": (many_indirect, errors.ChainLoopError, "8 descriptors"),
    "indirect-buffer-outside": (
        table((1 << 40, 8, 0, 0)),
        errors.BufferAddressError,
        hex((1 << 40) + 0x90000),
    ),
    "indirect-table-outside": (one(1 << 50, 16, INDIRECT), errors.BufferAddressError, hex(1 << 50)),
    "indirect-table-tail-outside": (one(0x7FFF0, 0x20, INDIRECT), errors.BufferAddressError, "0x110000"),
    "indirect-table-wraps": (one(2**64 - 16, 32, INDIRECT), errors.AddressWrapError, hex(2**64 - 16)),
}


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("name", CASES)
def test_a_malformed_chain_stops_the_queue(raw_split, name, byte_order):
    prepare, error, number = CASES[name]
    ring = raw_split(byte_order=byte_order)
    queue = ring.device(features=FEATURE_INDIRECT)
    if name == "indirect-table-tail-outside":
        # The chain really goes on into the missing second descriptor.
        ring.descriptor(0, ring.data, 8, NEXT, 1, table=ring.data + 0x7FFF0)
    prepare(ring)
    with pytest.raises(error) as first:
        queue.pop()
    assert type(first.value) is error
    assert number in str(first.value)
    assert first.value.code in errors.catalogue()
    # It stays stopped whatever the ring says now.
    ring.descriptor(0, ring.data, 8)
    ring.set_available(1)
    with pytest.raises(error) as again:
        queue.pop()
    assert str(again.value) == str(first.value) == str(queue.fault_error())
    assert not queue.is_available()
    assert queue.outstanding == 0
    assert ring.used_index == 0


def test_indirect_needs_negotiation(raw_split):
    ring = raw_split()
    queue = ring.device()
    table((0, 8, 0, 0))(ring)
    with pytest.raises(errors.IndirectUnexpectedError, match="descriptor 0"):
        queue.pop()


def test_the_sum_of_a_chain_stays_below_four_gigabytes(raw_split, sparse_memory):
    ring = raw_split(memory=sparse_memory)
    queue = ring.device()
    four_gigabytes(ring)
    with pytest.raises(errors.LengthOverflowError, match=str(2 * 0xC0000000)):
        queue.pop()


def test_exactly_four_gigabytes_pass(raw_split, sparse_memory):
    ring = raw_split(memory=sparse_memory)
    queue = ring.device()
    ring.chain(0, [(0x1000000000, 0x80000000, 0), (0x1000000000, 0x80000000, WRITE)])
    ring.offer(0)
    chain = queue.pop()
    assert (chain.readable_length, chain.writable_length) == (1 << 31, 1 << 31)


def test_more_chains_than_descriptors(raw_split):
    ring = raw_split(size=2)
    queue = ring.device()
    ring.chain(0, [(ring.data, 1, 0)])
    ring.chain(1, [(ring.data, 1, 0)])
    ring.offer(0, 1)
    held = [queue.pop(), queue.pop()]
    ring.offer(0)
    with pytest.raises(errors.TooManyChainsError, match="2 chains"):
        queue.pop()
    # What was taken before can still be given back.
    for chain in held:
        queue.push(chain, 0)
    queue.publish_used()
    assert ring.used_index == 2


def test_chains_before_the_malformed_one_are_taken(raw_split):
    ring = raw_split()
    queue = ring.device()
    ring.chain(0, [(ring.data, 1, 0)])
    ring.descriptor(1, ring.data, 0)
    ring.offer(0, 1)
    chain = queue.pop()
    assert chain.id == 0
    with pytest.raises(errors.LengthZeroError):
        queue.pop()
    queue.push(chain)
    assert queue.publish_used()
    assert queue.state().avail_index == 1


def test_read_only_memory_is_not_written(raw_split, two_regions):
    ring = raw_split(memory=two_regions)
    queue = ring.device()
    ring.chain(0, [(0x200000, 8, 0)])
    ring.chain(1, [(0x200000, 8, WRITE)])
    ring.offer(0, 1)
    assert queue.pop().readable_length == 8
    with pytest.raises(errors.BufferAddressError, match="0x200000"):
        queue.pop()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"descriptors": 0x10008}, "aligned to 16"),
        ({"driver_area": 0x10001}, "aligned to 2"),
        ({"device_area": 0x10002}, "aligned to 4"),
        ({"descriptors": 0x10000 + 0x100000 - 16}, "ends before"),
        ({"device_area": 0x10000 + 0x100000 - 64}, "ends before"),
        ({"driver_area": 0}, "not in guest memory"),
        ({"descriptors": 2**64 - 16}, "not in guest memory"),
        ({"size": 0}, "cannot have 0"),
        ({"size": 12}, "cannot have 12"),
        ({"size": 65536}, "cannot have 65536"),
    ],
)
def test_a_ring_that_cannot_be_there(raw_split, change, words):
    ring = raw_split()
    for name, value in change.items():
        setattr(ring, name, value)
    with pytest.raises(errors.RingAreaError, match=words):
        ring.device()


def test_a_used_ring_in_read_only_memory(raw_split, two_regions):
    ring = raw_split(memory=two_regions)
    ring.device_area = 0x200000
    with pytest.raises(errors.RingAreaError, match="may not access"):
        ring.device()


def test_a_ring_that_lies_in_two_regions(raw_split, guest_memory):
    halves = [guest_memory(size=0x1000, base=base).regions[0] for base in (0x10000, 0x11000)]
    ring = raw_split(size=512, memory=GuestMemory(halves))
    with pytest.raises(errors.RingAreaError, match="ends before"):
        ring.device()


def test_chains_made_available_again_before_they_were_used(raw_split):
    """More is given back than the used ring holds, and none of it shown: only the ring is written."""
    ring = raw_split(size=4)
    queue = ring.device()
    ring.chain(0, [(ring.data, 8, 0)])
    end = ring.device_area + 4 + 8 * ring.size + 2
    ring.memory.write(end, b"\xa5" * 64)
    for _ in range(3 * ring.size + 1):
        ring.offer(0)
        queue.push(queue.pop())
    queue.publish_used()
    assert ring.memory.read(end, 64) == b"\xa5" * 64
    assert ring.used_index == 3 * ring.size + 1
