"""Requests through plain functions and coroutines, over real rings."""

import asyncio
import logging
import os
import threading

import pytest

from virtio.device import Device, Queue
from virtio.errors import UsageError
from virtio.spec import features as bits

MODERN = bits.mask(bits.VERSION_1, bits.EVENT_IDX, bits.INDIRECT_DESC)
PLAIN = bits.mask(bits.VERSION_1)
IN_ORDER = MODERN | bits.mask(bits.IN_ORDER)
PACKED = MODERN | bits.mask(bits.RING_PACKED)
PACKED_IN_ORDER = PACKED | bits.mask(bits.IN_ORDER)


class Upper(Device):
    device_id = 42
    queues = (Queue("requests"),)

    def requests(self, request):
        request.write(bytes(request.readable).upper())


class UpperLater(Device):
    device_id = 42
    queues = (Queue("requests"),)

    async def requests(self, request):
        text = request.read()
        await asyncio.sleep(0.002 if text.startswith(b"slow") else 0)
        request.write(text.upper())


@pytest.mark.parametrize("device", [Upper, UpperLater])
@pytest.mark.parametrize("features", [PLAIN, MODERN, IN_ORDER, PACKED, PACKED_IN_ORDER])
def test_answers(guest, device, features):
    ring = guest(device(), features=features).ring().set_up()
    assert ring.ask(b"hello", 16) == b"HELLO"
    assert ring.ask(b"scattered about", 32, pieces=4) == b"SCATTERED ABOUT"


@pytest.mark.parametrize("device", [Upper, UpperLater])
@pytest.mark.parametrize("features", [MODERN, PACKED])
@pytest.mark.parametrize("poll_us", [0, 50])
def test_thousands_of_requests_in_batches(guest, device, features, poll_us):
    machine = guest(device(), features=features, poll_us=poll_us)
    ring = machine.ring(size=256).set_up()
    for _ in range(40):
        tokens = {ring.add(b"request %d" % i, 16): i for i in range(100)}
        ring.kick()
        done = ring.reap(100)
        assert {token: b"REQUEST %d" % i for token, i in tokens.items()} == done
    stats = ring.vring.stats()
    assert stats["requests"] == 4000
    assert stats["in_flight"] == 0
    assert stats["batches"] < 4000


@pytest.mark.parametrize("features", [MODERN, PACKED])
def test_coroutines_complete_out_of_order(guest, features):
    ring = guest(UpperLater(), features=features).ring().set_up()
    slow, fast = ring.add(b"slow one", 16), ring.add(b"fast one", 16)
    ring.kick()
    assert list(ring.reap(2)) == [fast, slow]


def test_coroutines_are_many_in_flight(guest):
    class Gate(Device):
        device_id = 42
        queues = (Queue("requests"),)

        def __init__(self):
            self.waiting = 0
            self.all_here = asyncio.Event()

        async def requests(self, request):
            self.waiting += 1
            if self.waiting == 50:
                self.all_here.set()
            await self.all_here.wait()
            request.complete(0)

    ring = guest(Gate()).ring().set_up()
    for _ in range(50):
        ring.add(b"x")
    ring.kick()
    assert len(ring.reap(50)) == 50


def test_queue_arrays_know_their_index(guest):
    class Many(Device):
        device_id = 42
        queues = (Queue("control"), Queue("request", count=3))

        def control(self, request):
            request.write(b"control")

        def request(self, request):
            request.write(b"%d %s" % (request.queue_index, threading.current_thread().name.encode()))

    machine = guest(Many())
    rings = [machine.ring(i).set_up() for i in range(4)]
    assert rings[0].ask(b"", 64) == b"control"
    answers = [ring.ask(b"", 64) for ring in rings[1:]]
    assert [answer.split()[0] for answer in answers] == [b"1", b"2", b"3"]
    assert len({answer.split()[1] for answer in answers}) == 3


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_raising_handler_completes_with_nothing_and_lives(guest, kind, caplog):
    class Picky(Device):
        device_id = 42
        queues = (Queue("requests"),)

        def answer(self, request):
            text = request.read()
            request.write(b"partial")
            if text == b"bad":
                raise ValueError("no such thing")

        def requests(self, request):
            self.answer(request)

    class PickyLater(Picky):
        async def requests(self, request):
            self.answer(request)

    ring = guest(Picky() if kind == "plain" else PickyLater()).ring().set_up()
    with caplog.at_level(logging.ERROR, "virtio.device"):
        assert [ring.ask(b"bad", 16) for _ in range(20)] == [b""] * 20
    assert ring.ask(b"good", 16) == b"partial"
    (record,) = caplog.records
    assert "of requests: 3 bytes readable, 16 writable" in record.message
    assert "no such thing" in record.exc_text


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_failed_may_write_a_status(guest, kind):
    class Status(Device):
        device_id = 42
        queues = (Queue("requests"),)

        def requests(self, request):
            raise SystemExit(3)

        def failed(self, request, error):
            assert isinstance(error, SystemExit)
            request.write(b"\x01")

    class StatusLater(Status):
        async def requests(self, request):
            raise SystemExit(3)

    ring = guest(Status() if kind == "plain" else StatusLater()).ring().set_up()
    assert ring.ask(b"x", 4) == b"\x01"
    assert ring.ask(b"x", 4) == b"\x01"


def test_a_failing_failed_is_survived(guest, caplog):
    class Hopeless(Device):
        device_id = 42
        queues = (Queue("requests"),)

        def requests(self, request):
            raise ValueError("first")

        def failed(self, request, error):
            raise KeyError("second")

    ring = guest(Hopeless()).ring().set_up()
    assert ring.ask(b"x", 4) == b""
    assert "second" in caplog.text


def test_a_queue_without_a_method_is_refused(guest):
    class Lacking(Device):
        device_id = 42
        queues = (Queue("requests"),)

    with pytest.raises(UsageError, match=r"Lacking has no method requests\(request\)"):
        guest(Lacking())


def test_coroutines_complete_from_another_thread(guest):
    class Elsewhere(Device):
        device_id = 42
        queues = (Queue("requests"),)

        async def requests(self, request):
            def finish():
                request.write(b"from a thread")
                request.complete()

            await asyncio.get_running_loop().run_in_executor(None, finish)

    ring = guest(Elsewhere()).ring().set_up()
    for _ in range(50):
        assert ring.ask(b"", 32) == b"from a thread"


def test_an_early_complete_reaches_the_driver_while_the_coroutine_goes_on(guest):
    class Early(Device):
        device_id = 42
        queues = (Queue("requests", drain=0.0),)

        async def requests(self, request):
            request.write(b"now")
            request.complete()
            await asyncio.sleep(3600)

    ring = guest(Early()).ring().set_up()
    assert ring.ask(b"", 8) == b"now"


@pytest.mark.parametrize("device", [Upper, UpperLater])
def test_a_driver_that_cannot_kick_is_polled(guest, device):
    machine = guest(device())
    ring = machine.ring()
    ring.set_up()
    ring.vring.set_kick(None)
    ring.add(b"polled", 16)
    ring.queue.publish_added()
    assert list(ring.reap(1).values()) == [b"POLLED"]


@pytest.mark.parametrize("device", [Upper, UpperLater])
def test_in_band_kicks_and_calls(guest, device):
    called = threading.Event()
    machine = guest(device(), on_call=lambda index: called.set())
    ring = machine.ring().set_up()
    ring.vring.set_kick(None, in_band=True)
    ring.vring.set_call(None)
    ring.add(b"in-band", 16)
    ring.queue.publish_added()
    ring.queue.request_notifications()
    ring.vring.kick()
    assert called.wait(5)
    assert [written for _, written in ring.queue.reap_completions()] == [7]


@pytest.mark.parametrize("device", [Upper, UpperLater])
def test_a_closed_kick_pipe_is_not_a_busy_loop(guest, device, wait_until):
    read_end, write_end = os.pipe()
    ring = guest(device(), poll_us=0).ring().set_up()
    ring.vring.set_kick(read_end)
    os.close(write_end)
    wait_until(lambda: ring.vring.stats()["sleeps"] > 0)
    before = ring.vring.stats()["sleeps"]
    threading.Event().wait(0.1)
    assert ring.vring.stats()["sleeps"] - before < 10
    ring.add(b"in-band", 16)
    ring.queue.publish_added()
    ring.vring.kick()
    assert list(ring.reap(1).values()) == [b"IN-BAND"]
