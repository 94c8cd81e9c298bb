"""A session with the real device side: rings in shared memory, workers, resets, and front-ends that die."""

import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from virtio.errors import VirtioError
from virtio.testing import SharedMemory, loopback
from virtio.vhost_user.frontend import DEFAULT_PROTOCOL_FEATURES, Frontend
from virtio.vhost_user.messages import ProtocolFeature

pytest.importorskip("virtio.device.attachment")
from virtio.device import Device, Queue, Request

pytestmark = pytest.mark.usefixtures("no_fd_leaks")
BASE = 0x100000
VERSION_1 = 1 << 32


class Upper(Device):
    """Answers every request with its text in capitals, when it may."""

    device_id = 42
    queues = (Queue("requests", size=8),)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def requests(self, request: Request) -> None:
        self.begun.set()
        self.gate.wait(10)
        request.write(bytes(request.readable).upper())


class Driver:
    """The least that can use one split ring: one request at a time, always in descriptors 0 and 1."""

    def __init__(self, front: Frontend, memory: SharedMemory, *, in_band: bool = False) -> None:
        self.front = front
        self.memory = memory
        self.in_band = in_band
        self.kick = os.eventfd(0, os.EFD_CLOEXEC)
        self.call = os.eventfd(0, os.EFD_CLOEXEC)
        self.count = 0

    def set_up(self, base: int = 0) -> None:
        front, memory = self.front, self.memory
        front.set_features(VERSION_1)
        if not front.regions:
            front.add_mem_region(memory.region)
        front.set_vring_num(0, 8)
        front.set_vring_base(0, base)
        front.set_vring_addr(0, memory.user(0), memory.user(0x1000), memory.user(0x2000))
        if not self.in_band:
            front.set_vring_kick(0, self.kick)
            front.set_vring_call(0, self.call)
        front.set_vring_enable(0)

    def submit(self, text: bytes) -> None:
        raw = self.memory.bytes
        raw[0x8000 : 0x8000 + len(text)] = text
        raw[0:32] = struct.pack("<QIHHQIHH", BASE + 0x8000, len(text), 1, 1, BASE + 0x9000, 64, 2, 0)
        struct.pack_into("<H", raw, 0x1004 + 2 * (self.count % 8), 0)
        self.count += 1
        raw[0x1002:0x1004] = struct.pack("<H", self.count)
        if self.in_band:
            self.front.vring_kick(0)
        else:
            os.eventfd_write(self.kick, 1)

    def used(self) -> int:
        used: int = struct.unpack_from("<H", self.memory.bytes, 0x2002)[0]
        return used

    def answer(self) -> bytes:
        deadline = time.monotonic() + 5
        while self.used() != self.count:
            assert time.monotonic() < deadline
            if self.in_band:
                self.front.serve_back_channel(0.1)
            elif select.select([self.call], [], [], 0.1)[0]:
                os.eventfd_read(self.call)
        written = struct.unpack_from("<I", self.memory.bytes, 0x2004 + 8 * ((self.count - 1) % 8) + 4)[0]
        return self.memory.bytes[0x9000 : 0x9000 + written]

    def close(self) -> None:
        os.close(self.kick)
        os.close(self.call)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    with SharedMemory(1 << 20, guest_address=BASE) as made:
        yield made


@pytest.fixture
def drive(memory: SharedMemory) -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def make(front: Frontend, **options: bool) -> Driver:
        made.append(Driver(front, memory, **options))
        return made[-1]

    yield make
    for driver in made:
        driver.close()


def test_requests_stop_and_go_on(drive: Callable[..., Driver]) -> None:
    with loopback(Upper()) as front:
        driver = drive(front)
        driver.set_up()
        for text in (b"one", b"two", b"three") * 5:
            driver.submit(text)
            assert driver.answer() == text.upper()
        assert front.get_vring_base(0) == 15
        driver.set_up(base=15)
        driver.submit(b"again")
        assert driver.answer() == b"AGAIN"


def test_every_kind_of_reset(drive: Callable[..., Driver], memory: SharedMemory) -> None:
    with loopback(Upper()) as front:
        driver = drive(front)
        for reset in (front.reset_device, lambda: front.set_status(0), lambda: None):
            memory.bytes[:0x3000] = bytes(0x3000)
            driver.count = 0
            driver.set_up()
            driver.submit(b"hello")
            assert driver.answer() == b"HELLO"
            reset()


def test_in_band(drive: Callable[..., Driver]) -> None:
    calls: list[int] = []
    features = DEFAULT_PROTOCOL_FEATURES | ProtocolFeature.INBAND_NOTIFICATIONS.mask
    with loopback(Upper(), protocol_features=features) as front:
        front._exchange.on_vring_call = calls.append
        driver = drive(front, in_band=True)
        driver.set_up()
        for _ in range(3):
            driver.submit(b"quiet")
            assert driver.answer() == b"QUIET"
        front.serve_back_channel(1)
        assert calls


def test_memory_comes_and_goes_while_requests_are_served(
    drive: Callable[..., Driver], memory: SharedMemory
) -> None:
    with loopback(Upper()) as front, SharedMemory(1 << 16, guest_address=BASE * 4) as more:
        driver = drive(front)
        driver.set_up()
        for _ in range(10):
            front.add_mem_region(more.region)
            driver.submit(b"x")
            assert driver.answer() == b"X"
            front.remove_mem_region(more.region)
            driver.submit(b"y")
            assert driver.answer() == b"Y"


def test_a_ring_that_breaks_is_reported(drive: Callable[..., Driver], memory: SharedMemory) -> None:
    reports: list[VirtioError] = []
    with loopback(Upper(), reports=reports) as front:
        driver = drive(front)
        driver.set_up()
        memory.bytes[0x1002:0x1004] = struct.pack("<H", 1000)
        os.eventfd_write(driver.kick, 1)
        deadline = time.monotonic() + 5
        while not reports:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert reports[0].code.startswith("E-RING")
        front.get_vring_base(0)
        memory.bytes[:0x3000] = bytes(0x3000)
        driver.set_up()
        driver.submit(b"mended")
        assert driver.answer() == b"MENDED"


def test_a_front_end_that_dies_in_mid_request(drive: Callable[..., Driver]) -> None:
    device = Upper()
    with loopback(device) as front:
        driver = drive(front)
        driver.set_up()
        device.gate.clear()
        driver.submit(b"never read")
        assert device.begun.wait(5)
        front.close()
        device.gate.set()
    with loopback(device) as front:
        assert front.get_features() & VERSION_1


def test_many_front_ends_after_each_other(drive: Callable[..., Driver], memory: SharedMemory) -> None:
    device = Upper()
    for _ in range(20):
        memory.bytes[:0x3000] = bytes(0x3000)
        with loopback(device) as front:
            driver = drive(front)
            driver.set_up()
            driver.submit(b"hello")
            assert driver.answer() == b"HELLO"
