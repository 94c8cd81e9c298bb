"""Where a packed ring stands, in VRING_BASE: a driver stops it and goes on at every position it can have."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from virtio.device import Device, Queue, Request
from virtio.errors import RefusedError
from virtio.memory import GuestMemory, Mapping
from virtio.spec import features as feature_bits
from virtio.testing import SharedMemory, loopback
from virtio.vhost_user.frontend import Frontend
from virtio.vhost_user.rings import state_to_base
from virtio.virtqueue import driver_queue
from virtio.virtqueue.state import QueueState

pytestmark = pytest.mark.usefixtures("no_fd_leaks")
BASE = 0x100000
PACKED = 1 << feature_bits.VERSION_1 | 1 << feature_bits.RING_PACKED
NEW = 0x8000_8000


class Upper(Device):
    """Answers every request with its text in capitals."""

    device_id = 42
    queues = (Queue("requests", size=16),)

    def requests(self, request: Request) -> None:
        request.write(bytes(request.readable).upper())


class Driver:
    """A packed ring of a few descriptors, whose chains are one or two descriptors long in turn."""

    def __init__(self, memory: SharedMemory, size: int) -> None:
        self.memory = memory
        self.size = size
        guest = GuestMemory([Mapping.from_fd(memory.fd, memory.size, guest_address=BASE)])
        self.ring = driver_queue(guest, size, BASE, BASE + 0x1000, BASE + 0x2000, features=PACKED)
        self.kick = os.eventfd(0, os.EFD_CLOEXEC)
        self.call = os.eventfd(0, os.EFD_CLOEXEC)
        self.taken = 0  # descriptors

    def set_up(self, front: Frontend, base: int) -> None:
        if not front.regions:
            front.set_features(PACKED)
            front.add_mem_region(self.memory.region)
        front.set_vring_num(0, self.size)
        front.set_vring_base(0, base)
        user = self.memory.user
        front.set_vring_addr(0, user(0), user(0x1000), user(0x2000))
        front.set_vring_kick(0, self.kick)
        front.set_vring_call(0, self.call)
        front.set_vring_enable(0)

    def ask(self, text: bytes, descriptors: int) -> bytes:
        self.memory.bytes[0x8000 : 0x8000 + len(text)] = text
        middle = BASE + 0x8000 + len(text) // 2
        parts = [(BASE + 0x8000, len(text) // 2), (middle, len(text) - len(text) // 2)]
        if descriptors == 2:
            parts = [(BASE + 0x8000, len(text))]
        self.ring.add_buffers(parts, [(BASE + 0x9000, 64)], 1)
        self.ring.publish_added()
        self.taken += descriptors
        os.eventfd_write(self.kick, 1)
        while not (found := self.ring.reap_completions()):
            assert select.select([self.call], [], [], 20)[0], "no answer"
            os.eventfd_read(self.call)
        return self.memory.bytes[0x9000 : 0x9000 + found[0][1]]

    @property
    def position(self) -> QueueState:
        """Where the device is, nothing being in flight."""
        rounds, index = divmod(self.taken, self.size)
        return QueueState(index, index, rounds % 2 == 0, rounds % 2 == 0)

    def close(self) -> None:
        os.close(self.kick)
        os.close(self.call)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    with SharedMemory(1 << 20, guest_address=BASE) as made:
        yield made


@pytest.mark.parametrize("lengths", [(2,), (3,), (2, 3)], ids=str)
def test_a_ring_goes_on_at_every_position(memory: SharedMemory, lengths: tuple[int, ...]) -> None:
    driver = Driver(memory, 6)
    with loopback(Upper()) as front:
        base = NEW
        for number in range(24):
            driver.set_up(front, base)
            assert (
                driver.ask(b"request %d" % number, lengths[number % len(lengths)]) == b"REQUEST %d" % number
            )
            base = front.get_vring_base(0)
            assert base == state_to_base(driver.position, packed=True)
    driver.close()


@pytest.mark.parametrize("says_used", [True, False], ids=["as QEMU", "as DPDK"])
def test_a_ring_goes_on_in_another_session(memory: SharedMemory, says_used: bool) -> None:
    driver = Driver(memory, 6)
    base = NEW
    for number in range(18):
        with loopback(Upper()) as front:
            driver.set_up(front, base if says_used else base & 0xFFFF)
            assert driver.ask(b"request %d" % number, 2) == b"REQUEST %d" % number
            base = front.get_vring_base(0)
    assert driver.taken == 36
    driver.close()


@pytest.mark.parametrize("base", [0, 0x8000, NEW], ids=["as User-Mode Linux", "as DPDK", "as QEMU"])
@pytest.mark.parametrize("early", [False, True])
def test_a_new_ring(memory: SharedMemory, base: int, early: bool) -> None:
    driver = Driver(memory, 6)
    with ExitStack() as stack:
        front = stack.enter_context(loopback(Upper()))
        if early:  # buffers are there before the device looks
            memory.bytes[0x8000:0x8003] = b"abc"
            driver.ring.add_buffers([(BASE + 0x8000, 3)], [(BASE + 0x9000, 64)], 1)
            driver.ring.publish_added()
        driver.set_up(front, base)
        if early:
            assert select.select([driver.call], [], [], 20)[0]
            assert memory.bytes[0x9000:0x9003] == b"ABC"
        else:
            assert driver.ask(b"abc", 2) == b"ABC"
    driver.close()


@pytest.mark.parametrize("index", [6, 0x7FFF])
def test_no_position_beyond_the_ring(memory: SharedMemory, index: int) -> None:
    driver = Driver(memory, 6)
    with loopback(Upper()) as front:
        with pytest.raises(RefusedError):
            driver.set_up(front, index | 0x8000 | (index | 0x8000) << 16)
        assert front.get_features()
    driver.close()
