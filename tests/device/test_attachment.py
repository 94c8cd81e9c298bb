"""What transports do to queues: start, stop, change under way, in any order; and what drivers do wrong."""

import asyncio
import gc
import itertools
import logging
import os
import select
import struct
import threading
import time

import pytest

from virtio.device import Attachment, Device, Queue
from virtio.errors import (
    AddressError,
    DescriptorIndexError,
    DrainError,
    FeatureError,
    IndexJumpError,
    MemoryGoneError,
    RingAreaError,
    UsageError,
    VirtioError,
)
from virtio.memory import GuestMemory, Iotlb, Mapping
from virtio.spec import features as bits
from virtio.spec.status import ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_OK, FEATURES_OK
from virtio.virtqueue import QueueState

LIVE = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
BASE, USER, SIZE = 0x100000, 0x7F1200000000, 4 << 20


class Upper(Device):
    device_id = 42
    queues = (Queue("requests"),)

    def requests(self, request):
        request.write(bytes(request.readable).upper())


class UpperLater(Device):
    device_id = 42
    queues = (Queue("requests"),)

    async def requests(self, request):
        await asyncio.sleep(0)
        request.write(bytes(request.readable).upper())


SPLIT = bits.mask(bits.VERSION_1, bits.EVENT_IDX, bits.INDIRECT_DESC)
PACKED = SPLIT | bits.mask(bits.RING_PACKED)
kinds = pytest.mark.parametrize("features", [SPLIT, PACKED], ids=["split", "packed"])
both = pytest.mark.parametrize("device", [Upper, UpperLater])


def readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


# Setting up.


@pytest.mark.parametrize("order", list(itertools.permutations(["addresses", "memory", "start", "enable"])))
def test_any_order_of_setting_up(guest, order):
    machine = guest(Upper())
    attachment = machine.attachment
    attachment.reset()
    attachment.set_memory(GuestMemory())
    machine.negotiate(bits.mask(bits.VERSION_1))
    ring = machine.ring()
    vring = ring.vring
    vring.set_size(ring.size)
    vring.set_kick(os.dup(ring.kick_fd))
    vring.set_call(os.dup(ring.call_fd))
    attachment.memory = None
    steps = {
        "addresses": lambda: vring.set_addresses(*ring.areas),
        "memory": lambda: attachment.set_memory(machine.memory),
        "start": vring.start,
        "enable": lambda: vring.set_enabled(True),
    }
    for name in order:
        assert not vring.running
        steps[name]()
    assert vring.running
    vring.start()
    assert ring.ask(b"ready", 8) == b"READY"


@both
def test_a_disabled_ring_waits(guest, device):
    machine = guest(device())
    ring = machine.ring().set_up(enable=False)
    token = ring.add(b"patience", 16)
    ring.kick()
    time.sleep(0.05)
    assert not ring.vring.running
    assert ring.queue.reap_completions() == []
    ring.vring.set_enabled(True)
    assert ring.reap(1) == {token: b"PATIENCE"}
    ring.vring.set_enabled(False)
    token = ring.add(b"again", 16)
    ring.kick()
    time.sleep(0.05)
    assert ring.queue.reap_completions() == []
    ring.vring.set_enabled(True)
    assert ring.reap(1) == {token: b"AGAIN"}


@both
def test_user_addresses_are_translated(guest, device):
    ring = guest(device()).ring().set_up(user=True)
    assert ring.ask(b"user", 8) == b"USER"


@pytest.mark.parametrize("size", [0, 257, -1])
def test_sizes_that_cannot_be(guest, size):
    with pytest.raises(UsageError):
        guest(Upper()).ring().vring.set_size(size)


def test_ring_addresses_outside_memory(guest):
    machine = guest(Upper())
    vring = machine.ring().vring
    vring.set_enabled(True)
    vring.set_addresses(BASE, BASE + SIZE, BASE + 0x2000)
    with pytest.raises(RingAreaError):
        vring.start()
    vring.set_enabled(False)
    vring.set_addresses(0, 0x1000, 0x2000, user=True)
    with pytest.raises(AddressError):
        vring.set_enabled(True)
    assert not vring.running
    assert vring.stop() == QueueState()


# Stopping and going on.


@both
@kinds
def test_stop_and_start_go_on_where_they_were(guest, device, features):
    ring = guest(device(), features=features).ring().set_up()
    vring = ring.vring
    served = 0
    for _ in range(5):
        for _ in range(7):
            assert ring.ask(b"on", 4) == b"ON"
        served += 7
        state = vring.stop()
        # A packed ring counts descriptors, two a request here, below its size; a split ring requests.
        assert state.avail_index == state.used_index == (2 * served % 64 if features == PACKED else served)
        assert not vring.running
        assert vring.stop() == state
        token = ring.add(b"while stopped", 16)
        ring.kick()
        vring.set_state(state)
        vring.start()
        assert ring.reap(1) == {token: b"WHILE STOPPED"}
        served += 1


@both
def test_reset_and_another_driver_many_times(guest, device):
    machine = guest(device())
    for round in range(10):
        ring = machine.ring(size=16 << round % 3).set_up()
        machine.attachment.status = LIVE
        for _ in range(3):
            assert ring.ask(b"round %d" % round, 16) == b"ROUND %d" % round
        machine.attachment.status = 0
        assert not ring.vring.running
        assert machine.attachment.features == 0
        ring.add(b"into the void", 16)
        ring.kick()
        machine.negotiate((SPLIT, PACKED, bits.mask(bits.VERSION_1))[round % 3])
        machine.rewind()


def test_state_cannot_change_under_way(guest):
    machine = guest(Upper())
    ring = machine.ring().set_up()
    with pytest.raises(UsageError):
        ring.vring.set_state(QueueState(1, 1))
    with pytest.raises(UsageError):
        ring.vring.set_size(8)
    with pytest.raises(FeatureError):
        machine.attachment.set_features(0)
    machine.attachment.set_features(machine.attachment.features)
    assert ring.ask(b"still", 8) == b"STILL"


@both
def test_a_stop_waits_for_what_is_in_flight(guest, device):
    entered, leave = threading.Event(), threading.Event()

    class Slow(Upper):
        def requests(self, request):
            entered.set()
            leave.wait()
            request.write(b"done")

    class SlowLater(UpperLater):
        async def requests(self, request):
            entered.set()
            await asyncio.get_running_loop().run_in_executor(None, leave.wait)
            request.write(b"done")

    ring = guest(Slow() if device is Upper else SlowLater()).ring().set_up()
    token = ring.add(b"", 8)
    ring.kick()
    assert entered.wait(5)
    states = []
    stopper = threading.Thread(target=lambda: states.append(ring.vring.stop()))
    stopper.start()
    time.sleep(0.05)
    assert states == []
    leave.set()
    stopper.join()
    assert states == [QueueState(1, 1)]
    assert ring.reap(1) == {token: b"done"}


def test_a_coroutine_that_never_ends_is_cancelled(guest):
    cancelled = []

    class Forever(Device):
        device_id = 42
        queues = (Queue("requests", drain=0.05),)

        async def requests(self, request):
            await asyncio.sleep(3600)

        def failed(self, request, error):
            cancelled.append(type(error))
            request.write(b"\x02")

    machine = guest(Forever())
    ring = machine.ring().set_up()
    token = ring.add(b"", 8)
    ring.kick()
    while not ring.vring.stats()["requests"]:
        time.sleep(0.001)
    assert ring.vring.stop() == QueueState(1, 1)
    assert ring.reap(1) == {token: b"\x02"}
    assert cancelled == [asyncio.CancelledError]
    assert machine.faults == []


def test_a_reset_cancels_at_once(guest):
    class Forever(Device):
        device_id = 42
        queues = (Queue("requests", drain=60.0),)

        async def requests(self, request):
            await asyncio.sleep(3600)

    machine = guest(Forever())
    ring = machine.ring().set_up()
    for _ in range(10):
        ring.add(b"", 8)
    ring.kick()
    while ring.vring.stats()["requests"] < 10:
        time.sleep(0.001)
    start = time.monotonic()
    machine.attachment.reset()
    assert time.monotonic() - start < 10


def test_a_plain_handler_that_hangs_is_given_up(guest, caplog):
    leave = threading.Event()

    class Hang(Device):
        device_id = 42
        queues = (Queue("requests", drain=0.05),)

        def requests(self, request):
            leave.wait()
            request.write(b"too late")

    machine = guest(Hang())
    ring = machine.ring().set_up()
    ring.add(b"", 8)
    ring.kick()
    while not ring.vring.stats()["requests"]:
        time.sleep(0.001)
    ring.vring.stop()
    ((index, error),) = machine.faults
    assert index == 0
    assert isinstance(error, DrainError)
    leave.set()
    time.sleep(0.05)
    assert ring.queue.reap_completions() == []
    assert machine.memory.read(ring.areas[2] + 2, 2) == b"\0\0"


def test_a_handler_cannot_stop_its_own_queue(guest):
    class Suicidal(Device):
        device_id = 42
        queues = (Queue("requests"),)

        def requests(self, request):
            with pytest.raises(UsageError, match="use another thread"):
                self.attachments[0].vrings[0].stop()
            request.write(b"refused")

    machine = guest(Suicidal())
    ring = machine.ring().set_up()
    token = ring.add(b"", 16)
    ring.kick()
    assert ring.reap(1) == {token: b"refused"}


# File descriptors.


def open_fds():
    return set(os.listdir("/proc/self/fd"))


@both
def test_no_fd_is_leaked(guest, device):
    machine = guest(device())
    ring = machine.ring().set_up()
    ring.ask(b"x", 4)
    machine.attachment.close()
    machine.attachment.device.close()
    ring.close()
    gc.collect()
    before = open_fds()
    machine.rings.clear()
    for _ in range(5):
        machine.attachment = Attachment(machine.attachment.device)
        machine.negotiate(bits.mask(bits.VERSION_1))
        machine.attachment.set_memory(machine.memory)
        ring = machine.ring().set_up()
        vring = ring.vring
        setters = (vring.set_kick, vring.set_call, vring.set_err)
        for setter, fd in zip(setters, (ring.kick_fd, ring.call_fd, ring.err_fd), strict=True):
            setter(os.dup(fd))
            setter(None)
            setter(os.dup(fd))
        assert ring.ask(b"x", 4) == b"X"
        vring.stop()
        machine.attachment.close()
        machine.attachment.device.close()
        ring.close()
        machine.rings.clear()
    gc.collect()
    assert open_fds() == before


@both
def test_call_and_kick_change_under_way(guest, device):
    ring = guest(device(), poll_us=0).ring().set_up()
    for _ in range(20):
        fresh = os.eventfd(0, os.EFD_NONBLOCK)
        ring.vring.set_call(os.dup(fresh))
        os.close(ring.call_fd)
        ring.call_fd = fresh
        assert readable(fresh)  # one may have been missed
        assert ring.ask(b"call", 8) == b"CALL"
        fresh = os.eventfd(0, os.EFD_NONBLOCK)
        ring.vring.set_kick(os.dup(fresh))
        os.close(ring.kick_fd)
        ring.kick_fd = fresh
        assert ring.ask(b"kick", 8) == b"KICK"


def test_a_full_call_fd_does_not_block(guest):
    ring = guest(Upper()).ring().set_up()
    blocking = os.eventfd(0, 0)
    os.eventfd_write(blocking, (1 << 64) - 2)
    ring.vring.set_call(blocking)
    token = ring.add(b"quiet", 8)
    ring.kick()
    done = {}
    while not done:
        done = dict(ring.queue.reap_completions())
    assert done == {token: 5}
    assert ring.vring.stop().used_index == 1


# Memory under way.


@both
@kinds
def test_memory_may_change_while_requests_run(guest, device, features):
    machine = guest(device(), features=features)
    ring = machine.ring(size=256).set_up(user=True)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            machine.attachment.set_memory(machine.map())

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(20):
            tokens = [ring.add(b"moving %d" % i, 16) for i in range(50)]
            ring.kick()
            done = ring.reap(50)
            assert [done[token] for token in tokens] == [b"MOVING %d" % i for i in range(50)]
    finally:
        stop.set()
        changer.join()
    assert machine.faults == []


@both
def test_a_ring_moves_with_its_user_address(guest, device):
    machine = guest(device())
    ring = machine.ring().set_up(user=True)
    assert ring.ask(b"before", 8) == b"BEFORE"
    moved = GuestMemory([Mapping.from_fd(machine.fd, SIZE, guest_address=BASE * 5, user_address=USER)])
    machine.attachment.set_memory(moved)
    buffers = machine.scatter(b"after", 1), machine.scatter(bytes(8), 1)
    for (address, length), *_ in buffers:
        assert length
        assert ring.queue.add_buffers([], [(address + BASE * 4, length)], address)
    ring.kick()
    deadline = time.monotonic() + 5
    done = []
    while len(done) < 2:
        assert time.monotonic() < deadline
        done += ring.queue.reap_completions()
    assert machine.faults == []


def test_coroutines_waiting_for_the_outside_survive_other_memory(guest, wait_until):
    class Waiting(Device):
        device_id = 42
        queues = (Queue("requests", drain=60.0),)

        def __init__(self):
            self.news = asyncio.Event()

        async def requests(self, request):
            await self.news.wait()
            request.write(b"news")

    waiting = Waiting()
    machine = guest(waiting)
    ring = machine.ring().set_up()
    token = ring.add(b"", 8)
    ring.kick()
    wait_until(lambda: ring.vring.stats()["in_flight"] == 1)
    start = time.monotonic()
    machine.attachment.set_memory(machine.map())
    assert time.monotonic() - start < 10
    waiting._loop.start().call_soon_threadsafe(waiting.news.set)
    assert ring.reap(1) == {token: b"news"}
    assert ring.ask(b"", 8) == b"news"


def test_a_queue_broken_by_other_memory_lets_go_of_what_it_had(guest):
    """The error, which is kept, keeps neither the worker and its descriptors nor the old memory."""
    machine = guest(Upper())
    ring = machine.ring()
    before = len(os.listdir("/proc/self/fd"))
    ring.set_up()
    assert ring.ask(b"here", 4) == b"HERE"
    held = len(os.listdir("/proc/self/fd")) - before
    machine.attachment.set_memory(GuestMemory([Mapping.from_fd(machine.fd, 4096, guest_address=BASE * 5)]))
    assert ring.vring.error is not None
    gc.collect()
    assert held > 3
    assert len(os.listdir("/proc/self/fd")) - before == 3  # kick, call, err


@both
def test_memory_that_no_longer_covers_the_ring_breaks_the_queue(guest, device):
    machine = guest(device())
    machine.attachment.status = LIVE
    ring = machine.ring().set_up()
    assert ring.ask(b"x", 4) == b"X"
    elsewhere = Mapping.from_fd(machine.fd, SIZE // 2, guest_address=BASE * 100, user_address=USER)
    machine.attachment.set_memory(GuestMemory([elsewhere]))
    ((index, error),) = machine.faults
    assert (index, type(error)) == (0, RingAreaError)
    assert ring.vring.error is error
    assert not ring.vring.running
    assert readable(ring.err_fd)
    assert machine.attachment.status & DEVICE_NEEDS_RESET
    machine.attachment.set_memory(machine.memory)
    assert not ring.vring.running  # only a stop or a reset mends it
    state = ring.vring.stop()
    assert state == QueueState(1, 1)
    ring.vring.start()
    assert ring.ask(b"y", 4) == b"Y"


# Drivers that break the rules.


def break_index(ring):
    ring.guest.memory.write(ring.areas[1] + 2, struct.pack("<H", 1000))


def break_head(ring):
    ring.guest.memory.write(ring.areas[1] + 4, struct.pack("<H", 500))
    ring.guest.memory.write(ring.areas[1] + 2, struct.pack("<H", 1))


def break_address(ring):
    ring.queue.add_buffers([(0x10, 16)], [], 0)
    ring.queue.publish_added()


@both
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [(break_index, IndexJumpError), (break_head, DescriptorIndexError), (break_address, VirtioError)],
)
def test_a_malformed_ring_stops_that_queue_alone(guest, wait_until, device, spoil, expected):
    class Two(device):
        queues = (Queue("requests", count=2),)

    machine = guest(Two())
    machine.attachment.status = LIVE
    good, bad = machine.ring(0).set_up(), machine.ring(1).set_up()
    spoil(bad)
    os.eventfd_write(bad.kick_fd, 1)
    wait_until(lambda: machine.faults)
    ((index, error),) = machine.faults
    assert index == 1
    assert isinstance(error, expected)
    assert not bad.vring.running
    assert readable(bad.err_fd)
    assert machine.attachment.status == LIVE | DEVICE_NEEDS_RESET
    assert machine.config_changes == 1
    assert good.ask(b"alive", 8) == b"ALIVE"
    bad.vring.stop()
    machine.attachment.reset()
    machine.negotiate(bits.mask(bits.VERSION_1))
    assert machine.ring(1).set_up().ask(b"mended", 8) == b"MENDED"


@both
def test_truncated_memory_is_survived(guest, wait_until, device):
    machine = guest(device())
    ring = machine.ring().set_up()
    assert ring.ask(b"x", 4) == b"X"
    os.ftruncate(machine.fd, 0)
    os.eventfd_write(ring.kick_fd, 1)
    wait_until(lambda: machine.faults)
    assert isinstance(machine.faults[0][1], MemoryGoneError)
    assert not ring.vring.running
    ring.vring.stop()


@both
@kinds
def test_an_iotlb_miss_waits_for_its_translation(guest, device, features, wait_until):
    misses = []
    machine = guest(
        device(),
        features=features | bits.mask(bits.ACCESS_PLATFORM),
        transport_features=bits.mask(bits.ACCESS_PLATFORM),
        on_iotlb_miss=lambda index, address: misses.append((index, address)),
    )
    tlb = Iotlb(machine.memory)
    tlb.update(BASE, 0x10000, USER)
    machine.attachment.set_memory(tlb.snapshot())
    ring = machine.ring().set_up()
    address = machine.top
    token = ring.add(b"translate me", 16)
    ring.kick()
    wait_until(lambda: misses)
    assert misses == [(0, address)]
    assert ring.vring.running
    time.sleep(0.05)
    assert misses == [(0, address)]
    tlb.update(BASE, SIZE, USER)
    machine.attachment.set_memory(tlb.snapshot())
    assert ring.reap(1) == {token: b"TRANSLATE ME"}
    assert machine.faults == []


# Idle.


@both
def test_idle_costs_nothing(guest, device):
    ring = guest(device()).ring().set_up()
    ring.ask(b"warm", 8)
    time.sleep(0.05)
    before, sleeps = time.process_time(), ring.vring.stats()["sleeps"]
    time.sleep(0.3)
    assert time.process_time() - before < 0.1
    assert ring.vring.stats()["sleeps"] - sleeps <= 2


def test_polling_shrinks_when_it_does_not_pay(guest):
    ring = guest(Upper(), poll_us=200).ring().set_up()
    for _ in range(20):
        ring.ask(b"rare", 8)
        time.sleep(0.005)
    assert ring.vring.stats()["poll_ns"] == 0


def test_polling_goes_on_for_a_busy_driver_that_was_slow_to_wake(guest):
    ring = guest(Upper()).ring(size=128).set_up()
    for _ in range(20):
        for _ in range(64):
            ring.add(b"busy", 8)
        ring.kick()
        ring.reap(64)
        time.sleep(0.005)
    assert ring.vring.stats()["poll_ns"] == 10_000


def test_workers_run_where_told(guest):
    class Where(Device):
        device_id = 42
        queues = (Queue("requests"),)

        def requests(self, request):
            request.write(repr(sorted(os.sched_getaffinity(0))).encode())

    cpu = max(os.sched_getaffinity(0))
    ring = guest(Where(), cpus=[cpu]).ring().set_up()
    assert ring.ask(b"", 32) == b"[%d]" % cpu


def test_failures_are_reported_again_after_a_while(caplog, monkeypatch):
    from virtio.device import failures

    log = failures.FailureLog()
    error = ValueError("x")
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            log.report("q", "request 1", error)
        monkeypatch.setattr(failures, "QUIET", 0.0)
        log.report("q", "request 2", error)
    assert [record.message for record in caplog.records] == [
        "request 1 failed",
        "request 2 failed (4 more like this since the last report)",
    ]
