from __future__ import annotations

import os

import pytest

from virtio.drivers.memory import Arena, Buffer, SharedRegion
from virtio.errors import ArenaExhaustedError, UsageError


def test_a_buffer_is_the_memory_at_its_address() -> None:
    with Arena(1 << 16) as arena:
        buffer = arena.allocate(1000)
        buffer.view[:] = bytes(range(250)) * 4
        assert arena.memory.read(buffer.address, 1000) == bytes(range(250)) * 4
        region = arena.regions[0]
        assert os.pread(region.fd, 1000, buffer.address - region.guest_address) == bytes(range(250)) * 4


def test_freed_memory_is_used_again_and_freeing_twice_is_harmless() -> None:
    with Arena(1 << 16) as arena:
        first = arena.allocate(1 << 16)
        first.free()
        first.free()
        second = arena.allocate(1 << 16)
        first.free()
        with pytest.raises(ArenaExhaustedError):
            arena.allocate(1)
        assert second.address == first.address


def test_a_full_arena_says_so() -> None:
    with Arena(4096) as arena:
        arena.allocate(4096)
        with pytest.raises(ArenaExhaustedError, match="takes no more") as caught:
            arena.allocate(1)
        assert "arena_size" in caught.value.fix


def test_a_full_arena_grows_where_the_device_takes_more() -> None:
    told: list[SharedRegion] = []

    def share(region: SharedRegion) -> bool:
        told.append(region)
        return len(told) < 3

    with Arena(4096, share=share) as arena:
        buffers = [arena.allocate(4096) for _ in range(3)]
        assert len({buffer.address for buffer in buffers}) == 3
        assert told == arena.regions[1:]
        with pytest.raises(ArenaExhaustedError, match="refuses another"):
            arena.allocate(1)
        assert len(arena.regions) == 3


def test_an_arena_grows_by_what_is_asked_if_that_is_more() -> None:
    with Arena(4096, share=lambda region: True) as arena:
        buffer = arena.allocate(100_000)
        buffer.view[-1] = 7
        assert arena.memory.read(buffer.address + 99_999, 1) == b"\7"


def test_a_slice_stays_within_its_buffer() -> None:
    with Arena(4096) as arena:
        buffer = arena.allocate(100)
        assert buffer.slice(10, 90) == (buffer.address + 10, 90)
        for start, length in ((10, 91), (-1, 5), (0, -1)):
            with pytest.raises(UsageError):
                buffer.slice(start, length)


def test_a_view_survives_its_arena() -> None:
    with Arena(4096) as arena:
        buffer: Buffer = arena.allocate(10)
    view = buffer.view
    del arena, buffer
    view[:] = b"0123456789"
    assert bytes(view) == b"0123456789"


@pytest.mark.parametrize("size", [0, -5])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(UsageError):
        Arena(size)
    with Arena(4096) as arena, pytest.raises(UsageError):
        arena.allocate(size)
