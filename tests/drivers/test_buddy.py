from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.drivers.buddy import BuddyAllocator

SIZE = 1 << 14


def test_a_size_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        BuddyAllocator(3 << 10)


def test_blocks_are_aligned_to_their_size() -> None:
    blocks = BuddyAllocator(SIZE)
    blocks.allocate(64)
    offset = blocks.allocate(4096)
    assert offset is not None
    assert offset % 4096 == 0


def test_freed_neighbours_join() -> None:
    blocks = BuddyAllocator(SIZE)
    offsets = [blocks.allocate(SIZE // 4) for _ in range(4)]
    assert blocks.allocate(1) is None
    for offset in offsets:
        assert offset is not None
        blocks.release(offset)
    assert blocks.allocate(SIZE) == 0


@given(st.lists(st.one_of(st.integers(1, SIZE), st.none()), max_size=200))
def test_blocks_never_overlap_and_all_memory_comes_back(steps: list[int | None]) -> None:
    blocks = BuddyAllocator(SIZE)
    held: dict[int, int] = {}
    for size in steps:
        if size is None:
            if held:
                offset = next(iter(held))
                del held[offset]
                blocks.release(offset)
        elif (offset := blocks.allocate(size)) is not None:
            assert all(offset + size <= other or other + length <= offset for other, length in held.items())
            assert offset + size <= SIZE
            held[offset] = size
    for offset in held:
        blocks.release(offset)
    assert blocks.free_bytes == SIZE
    assert blocks.allocate(SIZE) == 0
