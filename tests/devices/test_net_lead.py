"""Which of a pair's two threads reads a link that waits for a file descriptor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from net_guest import Nic, open_net

from virtio.testing.wire import Wire

FRAME = bytes(range(1, 251))
MANY = 200  # frames at once: more than a transmitter reads for answers


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire(readable=True)
    yield wire
    wire.close()


@pytest.fixture(params=[False, True], ids=["split", "packed"])
def nic(request: Any, guest: Any, wire: Wire) -> Nic:
    return Nic(guest(open_net(wire), size=256, packed=request.param))


def exchange(nic: Nic, wire: Wire) -> str:
    """A frame out and its answer in. The queue whose thread read the answer."""
    nic.send(FRAME)
    if not nic.posted:
        nic.post(1)
    wire.offer([FRAME[::-1]])
    assert nic.take(1)[0].data == FRAME[::-1]
    return wire.fetcher.removeprefix("virtio-")


def have_transmitter_read(nic: Nic, wire: Wire) -> None:
    """Exchange frames until the transmitter has taken over, as it does once it finds the receiver asleep."""
    deadline = time.monotonic() + 20
    while "transmit" not in exchange(nic, wire):
        assert time.monotonic() < deadline


def test_answers_are_read_by_the_thread_that_sends(nic: Nic, wire: Wire) -> None:
    have_transmitter_read(nic, wire)
    nic.post(50)
    before = nic.guest.attachment.vrings[0].stats()["sleeps"]
    assert all("transmit" in exchange(nic, wire) for _ in range(50))
    # The receiver's own thread was woken by the kick, and to find that the link is not its own any more.
    assert nic.guest.attachment.vrings[0].stats()["sleeps"] - before <= 3


def test_what_comes_unasked_is_read_too(nic: Nic, wire: Wire) -> None:
    have_transmitter_read(nic, wire)
    for n in range(50):
        nic.post(1)
        wire.offer([bytes((n,)) * 60])
        assert nic.take(1)[0].data[0] == n


def test_a_burst_is_left_to_the_receiver(nic: Nic, wire: Wire) -> None:
    have_transmitter_read(nic, wire)
    nic.post(MANY)
    wire.offer([n.to_bytes(4, "big") * 20 for n in range(MANY)])
    assert [int.from_bytes(frame.data[:4], "big") for frame in nic.take(MANY)] == list(range(MANY))
    assert "receive" in wire.fetcher
    have_transmitter_read(nic, wire)  # and taken over again


def test_the_receiver_waits_for_room(nic: Nic, wire: Wire) -> None:
    """Its kicks wake no other thread, so nothing would come if the transmitter went on reading."""
    have_transmitter_read(nic, wire)
    wire.offer([bytes((n,)) * 60 for n in range(30)])
    for n in range(30):
        nic.post(1)
        assert nic.take(1)[0].data[0] == n
    have_transmitter_read(nic, wire)


def test_a_stopped_transmit_queue_leaves_the_link(nic: Nic, wire: Wire) -> None:
    have_transmitter_read(nic, wire)
    vring = nic.guest.attachment.vrings[1]
    state = vring.stop()
    nic.post(1)
    wire.offer([FRAME])
    assert nic.take(1)[0].data == FRAME
    assert "receive" in wire.fetcher
    vring.set_state(state)
    vring.start()
    have_transmitter_read(nic, wire)


def test_a_stopped_receive_queue_gets_the_link_back(nic: Nic, wire: Wire) -> None:
    have_transmitter_read(nic, wire)
    vring = nic.guest.attachment.vrings[0]
    state = vring.stop()
    wire.offer([FRAME])
    nic.send(FRAME, FRAME)  # what came cannot be put anywhere, and is no reason not to send
    assert wire.left == 1
    vring.set_state(state)
    vring.start()
    nic.post(1)
    assert nic.take(1)[0].data == FRAME


def test_a_broken_transmit_queue_leaves_the_link(nic: Nic, wire: Wire) -> None:
    have_transmitter_read(nic, wire)
    nic.guest.drivers[1].add_buffers([(0xDEAD_0000_0000, 2048)], (), 999)
    nic.guest.kick(1)
    deadline = time.monotonic() + 20
    while not nic.guest.faults:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    nic.guest.faults.clear()
    nic.post(1)
    wire.offer([FRAME])
    assert nic.take(1)[0].data == FRAME
    assert "receive" in wire.fetcher


def test_no_processor_time_while_nothing_happens(nic: Nic, wire: Wire) -> None:
    have_transmitter_read(nic, wire)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
