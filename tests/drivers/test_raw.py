"""Requests of any kind to a device of any type."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import virtio
from virtio.drivers import Raw
from virtio.errors import DeviceTimeoutError, RefusedError, UsageError
from virtio.spec import features as bits
from virtio.testing import loopback_socket


class Upper(virtio.Device):
    device_id = 42
    features = bits.mask(3)
    queues = (virtio.Queue("requests", size=128), virtio.Queue("lengths", size=128))

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.answer.set()

    def requests(self, request: virtio.Request) -> None:
        self.answer.wait(10)
        request.write(bytes(request.readable).upper())

    def lengths(self, request: virtio.Request) -> None:
        if request.writable_length:
            request.write(bytes([request.readable_length]))


def test_bytes_in_bytes_out() -> None:
    with loopback_socket(Upper()) as sock, Raw.connect(sock, device_id=42) as device:
        assert device.request(b"hello", 5) == b"HELLO"
        assert device.request(memoryview(b"more room"), 100) == b"MORE ROOM"
        assert device.request(bytearray(b""), 4) == b""


def test_any_queue() -> None:
    with loopback_socket(Upper()) as sock, Raw.connect(sock, device_id=42, num_queues=2) as device:
        assert device.request(b"hello", 1, queue=1) == b"\5"
        assert device.request(b"no answer wanted", queue=1) == b""
        with pytest.raises(UsageError, match="no queue 2 among 2"):
            device.request(b"x", 1, queue=2)


@pytest.mark.parametrize("packed", [False, True])
def test_features_are_accepted_when_asked_for(packed: bool) -> None:
    with (
        loopback_socket(Upper()) as sock,
        Raw.connect(sock, device_id=42, features=bits.mask(3, 4), packed=packed) as device,
    ):
        assert device.has(3)
        assert not device.has(4)
        assert device.has(bits.RING_PACKED) == packed


def test_more_threads_than_descriptors() -> None:
    with loopback_socket(Upper()) as sock, Raw.connect(sock, device_id=42, queue_size=4) as device:
        before = device.arena.free_bytes
        with ThreadPoolExecutor(16) as threads:
            words = [f"word {number}".encode() for number in range(500)]
            assert list(threads.map(lambda word: device.request(word, 20), words)) == [
                word.upper() for word in words
            ]
        assert device.arena.free_bytes == before


def test_a_request_that_says_nothing() -> None:
    with loopback_socket(Upper()) as sock, Raw.connect(sock, device_id=42) as device:
        before = device.arena.free_bytes
        for data, answer in ((b"", 0), (b"x", -1)):
            with pytest.raises(UsageError):
                device.request(data, answer)
        assert device.arena.free_bytes == before


def test_memory_is_kept_until_a_late_answer() -> None:
    upper = Upper()
    upper.answer.clear()
    with loopback_socket(upper) as sock, Raw.connect(sock, device_id=42, timeout=0.3) as device:
        before = device.arena.free_bytes
        with pytest.raises(DeviceTimeoutError):
            device.request(b"late", 4)
        assert device.arena.free_bytes < before
        upper.answer.set()
        assert device.request(b"next", 4) == b"NEXT"
        assert device.arena.free_bytes == before


def test_a_queue_larger_than_the_device_has() -> None:
    with loopback_socket(Upper()) as sock, pytest.raises(RefusedError, match="SET_VRING_NUM"):
        Raw.connect(sock, device_id=42, queue_size=256)
