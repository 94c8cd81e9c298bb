"""The worker by itself: the hand-shake with the control thread, and what it counts."""

import threading
import time

import pytest

from virtio.device import Device, HandlerWorker, Queue, QueueWorker
from virtio.errors import RingError
from virtio.spec import features as bits
from virtio.virtqueue.make import device_queue


class Echo(Device):
    device_id = 42
    queues = (Queue("requests"),)

    def requests(self, request):
        request.write(request.read())


def test_the_plain_engine_gives_everything_back_unread(guest):
    class Sink(Echo):
        def make_worker(self, index, queue):
            return QueueWorker(queue)

    ring = guest(Sink()).ring().set_up()
    assert ring.ask(b"swallowed", 16) == b""


@pytest.mark.parametrize("packed", [False, True])
def test_pause_and_resume_at_random(guest, packed):
    modern = bits.mask(bits.VERSION_1, bits.EVENT_IDX, bits.INDIRECT_DESC)
    machine = guest(Echo(), features=modern | packed << bits.RING_PACKED)
    ring = machine.ring(size=256).set_up()
    stop = threading.Event()

    def toggle():
        while not stop.is_set():
            ring.vring.set_enabled(False)
            ring.vring.set_enabled(True)

    toggler = threading.Thread(target=toggle)
    toggler.start()
    try:
        for _ in range(30):
            tokens = [ring.add(b"%d" % i, 16) for i in range(64)]
            ring.kick()
            done = ring.reap(64)
            assert [done[token] for token in tokens] == [b"%d" % i for i in range(64)]
    finally:
        stop.set()
        toggler.join()
    assert ring.vring.stats()["requests"] == 30 * 64


def test_a_paused_worker_touches_nothing(guest):
    machine = guest(Echo())
    ring = machine.ring().set_up()
    ring.ask(b"x", 4)
    ring.vring.set_enabled(False)
    before = machine.memory.read(ring.areas[2], 512)
    ring.add(b"y", 4)
    ring.kick()
    for _ in range(20):
        ring.vring.kick()
        time.sleep(0.001)
    assert machine.memory.read(ring.areas[2], 512) == before


def test_the_driver_is_notified_once_a_batch_and_only_if_it_wants(guest):
    machine = guest(Echo())
    ring = machine.ring(size=256).set_up(enable=False)
    for _ in range(64):
        ring.add(b"x", 4)
    ring.queue.publish_added()
    ring.queue.request_notifications()
    ring.vring.set_enabled(True)
    ring.reap(64)
    stats = ring.vring.stats()
    assert stats["requests"] == 64
    assert stats["notifications"] <= 2
    ring.queue.suppress_notifications()
    for _ in range(10):
        ring.add(b"x", 4)
        ring.kick()
        while not ring.queue.reap_completions():
            time.sleep(0)
    after = ring.vring.stats()
    assert after["notifications"] == stats["notifications"]
    assert after["suppressed"] >= stats["suppressed"] + 10


def test_counters_may_be_read_by_anyone_at_any_time(guest):
    ring = guest(Echo()).ring().set_up()
    for _ in range(5):
        ring.ask(b"x", 4)
    stats = ring.vring.stats()
    assert set(stats) == {
        "requests",
        "batches",
        "notifications",
        "suppressed",
        "sleeps",
        "kicks",
        "polls",
        "polls_paid",
        "poll_ns",
        "in_flight",
    }
    assert (stats["requests"], stats["batches"]) == (5, 5)
    ring.vring.stop()
    assert ring.vring.stats() == {}


def test_a_worker_on_its_own(guest):
    machine = guest(Echo())
    ring = machine.ring()
    ring.set_up(enable=False)
    seen = []

    class Listener:
        def on_fault(self, error):
            seen.append(error)

    queue = device_queue(machine.memory, ring.size, *ring.areas, features=machine.attachment.features)
    worker = HandlerWorker(queue, lambda request: request.write(b"direct"), lambda request, error: None)
    assert worker.settle(0)
    worker.configure(kick_fd=ring.kick_fd, call_fd=ring.call_fd, listener=Listener(), name="own")
    worker.start()
    assert (worker.name, worker.index, worker.faulted) == ("own", 0, False)
    assert ring.ask(b"", 8) == b"direct"
    worker.pause_soon()
    assert worker.settle(5)
    worker.resume()
    assert ring.ask(b"", 8) == b"direct"
    machine.memory.write(ring.areas[1] + 2, b"\xff\x7f")
    worker.kick()
    deadline = time.monotonic() + 5
    while not seen:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert isinstance(seen[0], RingError)
    assert worker.faulted
    worker.stop_soon()
    assert worker.settle(5)
    worker.close()
