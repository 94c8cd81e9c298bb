"""Several threads fill one receive ring, also while it is paused, stopped or moved."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from net_guest import Nic, open_net
from ring_guest import ARENA, BASE, MEMORY

from virtio.devices.net.filter import ReceiveFilter
from virtio.devices.net.nic import Nic as SharedNic
from virtio.devices.net.steering import Steering
from virtio.errors import UsageError
from virtio.memory import GuestMemory, Mapping
from virtio.network import FloodLink, NullLink
from virtio.spec import features as feature_bits
from virtio.spec import net
from virtio.testing.wire import Wire
from virtio.virtqueue import packed_layout, split_layout

VERSION_1 = 1 << feature_bits.VERSION_1
MERGE = feature_bits.mask(net.F_MRG_RXBUF)
SIZE = 128  # bytes of each receive buffer
RING = 256  # descriptors
EACH = 50_000  # frames of each sender
BURST = 50


class Ring:
    """Keeps a receive queue full of buffers, and reads what comes; quick enough for many frames."""

    def __init__(self, guest: Any) -> None:
        self.guest = guest
        self.driver = guest.drivers[0]
        for index in range(RING):
            self._offer(index)
        guest.kick(0)

    def _offer(self, index: int) -> None:
        self.driver.add_buffers((), [(BASE + ARENA + index * SIZE, SIZE)], index)

    def take(self) -> list[bytes]:
        """What has come, without headers; the buffers are offered again."""
        found = []
        for index, used in self.driver.reap_completions():
            found.append(self.guest.memory.read(BASE + ARENA + index * SIZE, used)[12:])
            self._offer(index)
        self.driver.publish_added()
        return found


@pytest.fixture(params=[False, True], ids=["split", "packed"])
def packed(request: Any) -> bool:
    return bool(request.param)


def test_two_senders_fill_one_ring(guest: Any, packed: bool) -> None:
    first, second = Wire(), Wire()
    device = open_net(first)
    driver = guest(device, features=VERSION_1 | MERGE, size=RING, packed=packed)
    second.connect(device.nic)
    ring = Ring(driver)

    def send(wire: Wire, mark: bytes) -> None:
        done = 0
        while done < EACH:
            frames = [
                mark + n.to_bytes(4, "big") * (3 + n % 20) for n in range(done, min(done + BURST, EACH))
            ]
            while frames:
                frames = frames[wire.send(frames) :]
                if frames:
                    time.sleep(0.0002)  # let the one that makes room run
            done += BURST

    senders = [
        threading.Thread(target=send, args=(wire, mark))
        for wire, mark in ((first, b"first,"), (second, b"second"))
    ]
    for sender in senders:
        sender.start()
    next_of = {b"first,": 0, b"second": 0}
    deadline = time.monotonic() + 100
    while sum(next_of.values()) < 2 * EACH and not driver.faults:
        assert time.monotonic() < deadline, next_of
        for frame in ring.take():
            number = next_of[frame[:6]]
            assert frame[6:] == number.to_bytes(4, "big") * (3 + number % 20)
            next_of[frame[:6]] = number + 1
    for sender in senders:
        sender.join()
    assert next_of == {b"first,": EACH, b"second": EACH}
    assert device.nic.stats()["receive"][0]["frames"] == 2 * EACH
    second.disconnect()


def ring_bytes(guest: Any, packed: bool) -> bytes:
    layout = packed_layout(RING) if packed else split_layout(RING)
    return bytes(guest.memory.read(BASE, layout.total))


def test_a_flood_meets_pauses_stops_and_other_memory(guest: Any, packed: bool) -> None:
    link = FloodLink(size=64)
    device = open_net(link)
    driver = guest(device, features=VERSION_1 | MERGE, size=RING, packed=packed)
    ring = Ring(driver)
    vring = driver.attachment.vrings[0]
    received = 0
    for turn in range(150):
        goal = received + 1
        while received < goal:  # it goes on after whatever happened before
            assert not driver.faults
            for frame in ring.take():
                assert len(frame) == 64
                received += 1
        if turn % 3 == 0:
            other = GuestMemory([Mapping.from_fd(driver.fd, MEMORY, guest_address=BASE)])
            driver.attachment.set_memory(other)
            continue
        if turn % 3 == 1:
            vring.set_enabled(False)
        else:
            vring.set_state(vring.stop())
        before = ring_bytes(driver, packed)
        refused = link.stats()["refusals"]
        while link.stats()["refusals"] < refused + 2:  # it tries, and must not get in
            time.sleep(0.0001)
        assert ring_bytes(driver, packed) == before
        if turn % 3 == 1:
            vring.set_enabled(True)
        else:
            vring.start()
    link.disconnect()
    received += len(ring.take())
    assert received == link.stats()["flooded"]
    assert not driver.faults


def test_settings_change_under_a_flood(guest: Any) -> None:
    link = FloodLink(size=64)
    device = open_net(link)
    driver = guest(device, features=VERSION_1 | MERGE, size=RING)
    ring = Ring(driver)
    received = 0
    for turn in range(300):
        received += len(ring.take())
        device.nic.set_filter(ReceiveFilter(promisc=True) if turn % 2 else None)
        device.nic.set_steering(Steering() if turn % 3 else None)
        device.nic.set_offloads(0)
    while received < 1000:
        received += len(ring.take())
    link.disconnect()
    received += len(ring.take())
    stats = device.nic.stats()["receive"][0]
    assert stats["frames"] == received
    assert stats["filtered"] == 0
    assert stats["frames"] + stats["full"] == link.stats()["flooded"]


# Choosing the receiver.


def test_the_senders_queue_chooses_the_receiver(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire, num_queues=2)
    features = VERSION_1 | feature_bits.mask(net.F_MQ, net.F_CTRL_VQ)
    driver = guest(device, features=features)
    nics = [Nic(driver, pair=pair) for pair in (0, 1)]
    for nic in nics:
        nic.post(10)
    device.nic.set_pairs(2)
    for queue in (0, 1, 2, 3):
        assert wire.send([bytes((queue,)) * 60], queue=queue) == 1
    assert [frame.data[0] for frame in nics[0].take(2)] == [0, 2]
    assert [frame.data[0] for frame in nics[1].take(2)] == [1, 3]
    device.nic.set_pairs(1)
    assert wire.send([b"x" * 60], queue=1) == 1
    assert nics[0].take(1)[0].data == b"x" * 60
    nics[1].send(b"y" * 60)
    assert wire.wait(1)[0].queue == 1


def test_a_full_receiver_does_not_hold_up_the_steering(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1))
    device.nic.set_steering(Steering())
    nic.post(2)
    assert wire.send([b"a" * 60] * 5) == 5
    assert len(nic.take(2)) == 2
    assert device.nic.stats()["receive"][0]["full"] == 3


def test_a_link_keeps_what_a_full_receiver_cannot_take_yet(guest: Any) -> None:
    wire = Wire(readable=True)
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1))
    device.nic.set_steering(Steering())
    nic.post(2)
    wire.offer([bytes((n,)) * 60 for n in range(5)])
    nic.post(3)
    assert [frame.data[0] for frame in nic.take(5)] == [0, 1, 2, 3, 4]
    assert device.nic.stats()["receive"][0]["full"] == 0


def test_a_full_receiver_does_not_hold_up_a_link_for_ever(guest: Any) -> None:
    wire = Wire(readable=True)
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1))
    device.nic.set_steering(Steering())
    nic.post(2)
    wire.offer([bytes((n,)) * 60 for n in range(5)])
    assert [frame.data[0] for frame in nic.take(2)] == [0, 1]
    deadline = time.monotonic() + 20
    while wire.left:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert device.nic.stats()["receive"][0]["full"] == 3


def test_the_hash_header(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1), length=20)
    device.nic.set_features(VERSION_1 | feature_bits.mask(net.F_HASH_REPORT))
    assert device.nic.header_length == 20
    device.nic.set_steering(Steering())
    nic.post(2)
    wire.send([b"a" * 60, b"b" * 70])
    assert [(frame.data, frame.hash) for frame in nic.take(2)] == [(b"a" * 60, (0, 0)), (b"b" * 70, (0, 0))]


def test_numbers_of_pairs_that_cannot_be() -> None:
    for pairs in (0, -1, 0x8001):
        with pytest.raises(UsageError):
            SharedNic(NullLink(), pairs)
    nic = SharedNic(NullLink(), 2)
    with pytest.raises(UsageError):
        nic.set_pairs(3)
