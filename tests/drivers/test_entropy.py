from __future__ import annotations

import pytest
from loopback import Loopback

from virtio.drivers import DriverOptions, Entropy
from virtio.errors import DeviceError, UsageError
from virtio.spec import features as bits

FEATURES = bits.mask(bits.VERSION_1, bits.EVENT_IDX)


def fill(most: int, asked: list[int] | None = None):  # type: ignore[no-untyped-def]
    def serve(readable: bytes, writable: list[memoryview]) -> int:
        assert readable == b""
        room = sum(map(len, writable))
        if asked is not None:
            asked.append(room)
        count = min(room, most)
        for view in writable:
            view[:count] = b"r" * count
        return count

    return serve


def test_as_many_bytes_as_asked_for() -> None:
    with Entropy(Loopback(serve=fill(1 << 20), features=FEATURES)) as source:
        assert source.read(100) == b"r" * 100
        assert source.read(0) == b""
        assert source.read(200_000) == b"r" * 200_000


def test_a_device_that_gives_little_is_asked_again() -> None:
    asked: list[int] = []
    with Entropy(Loopback(serve=fill(10, asked), features=FEATURES)) as source:
        assert source.read(25) == b"r" * 25
    assert asked == [25, 15, 5]


def test_a_device_that_gives_nothing() -> None:
    with (
        Entropy(Loopback(serve=fill(0), features=FEATURES)) as source,
        pytest.raises(DeviceError, match="nothing"),
    ):
        source.read(5)


def test_a_device_that_does_not_answer() -> None:
    transport = Loopback(serve=lambda readable, writable: -1, features=FEATURES)
    with Entropy(transport, DriverOptions(timeout=0.05)) as source, pytest.raises(TimeoutError):
        source.read(5)


def test_a_negative_length() -> None:
    with Entropy(Loopback(serve=fill(9), features=FEATURES)) as source, pytest.raises(UsageError):
        source.read(-1)
