"""Rings full of nonsense: the device ends with chains inside guest memory or a named error, always soon."""

import random

import pytest

from virtio import errors

NEXT, WRITE, INDIRECT = 1, 2, 4


def nonsense(ring, rng):
    """Descriptors that are half right, so that walks get far before they meet what is wrong."""
    for table, count in ((None, ring.size), (ring.data, 16), (ring.data + 0x1000, 3)):
        for i in range(count):
            inside = ring.data + rng.randrange(0x70000)
            (address,) = rng.choices([ring.data, inside, rng.randrange(2**64), 2**64 - 8], [4, 20, 1, 1])
            (length,) = rng.choices(
                [16, 48, rng.randrange(1, 0x1000), rng.randrange(2**32), 0], [4, 4, 20, 1, 1]
            )
            (flags,) = rng.choices(
                [0, NEXT, WRITE, NEXT | WRITE, INDIRECT, rng.randrange(2**16)], [8, 4, 8, 2, 3, 1]
            )
            following = rng.choice([(i + 1) % count, rng.randrange(count), rng.randrange(2**16)])
            ring.descriptor(i, address, length, flags, following & 0xFFFF, table)
    heads = [rng.randrange(ring.size) for _ in range(ring.size)]
    if rng.random() < 0.2:
        heads[-1] = rng.randrange(2**16)
    ring.offer(*heads)


@pytest.mark.parametrize("features", [0, 1 << 28, 1 << 28 | 1 << 29 | 1 << 35])
def test_nonsense_is_survived(raw_split, features):
    taken = 0
    faults = set()
    for seed in range(150):
        rng = random.Random(seed)
        ring = raw_split(size=rng.choice([1, 4, 16]))
        queue = ring.device(features=features)
        nonsense(ring, rng)
        for _ in range(ring.size):
            try:
                chain = queue.pop()
            except errors.RingError as error:
                faults.add(type(error))
                assert queue.fault_error() is not None
                break
            taken += 1
            for view in chain.readable:
                bytes(view[:64])
            for view in chain.writable:
                view[-1:] = b"!"
            queue.push(chain, chain.writable_length)
            queue.publish_used()
    assert taken > 50
    assert len(faults) >= 5
