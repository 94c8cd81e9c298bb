"""Notifications that wait (NOTF_COAL, VQ_NOTF_COAL): until a number of packets or a time, and never for ever."""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from net_guest import Nic, header, open_net
from ring_guest import ARENA, BASE, Guest

from virtio.devices.net import Net
from virtio.network import NullLink
from virtio.spec import features as feature_bits
from virtio.spec import net
from virtio.spec import net_control as ctrl
from virtio.testing.wire import Wire

VERSION_1 = 1 << feature_bits.VERSION_1
EVENT_IDX = 1 << feature_bits.EVENT_IDX
COALESCING = VERSION_1 | feature_bits.mask(net.F_CTRL_VQ, net.F_NOTF_COAL, net.F_VQ_NOTF_COAL)
RECEIVEQ, TRANSMITQ, CONTROLQ = range(3)
FRAME = bytes(60)
LONG = 60_000_000  # microseconds: longer than any test


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture(params=["split", "packed", "split-event-idx", "packed-event-idx"])
def rings(request: Any) -> dict[str, Any]:
    """Options of a guest whose driver can coalesce notifications."""
    kind = str(request.param)
    event_idx = EVENT_IDX if kind.endswith("idx") else 0
    return {"features": COALESCING | event_idx, "packed": kind.startswith("packed")}


def told(guest: Guest, queue: int) -> int:
    """How often the driver was notified of what happened in a queue."""
    return int(guest.attachment.vrings[queue].stats()["notifications"])


def ask(guest: Guest, command: int, data: bytes, *, room: int = 0) -> bytes:
    """One command of the class NOTF_COAL: its result, after its OK."""
    head = bytes((ctrl.CTRL_NOTF_COAL, command))
    answer = guest.ask([head, data], [1, room] if room else [1], queue=CONTROLQ)
    whole = b"".join(answer.parts)
    assert whole[0] == ctrl.OK
    return whole[1:]


def limit(guest: Guest, queue: int, packets: int, usecs: int) -> None:
    """Set the limits of one queue alone."""
    ask(guest, ctrl.CTRL_NOTF_COAL_VQ_SET, struct.pack("<HHII", queue, 0, packets, usecs))


def until(satisfied: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not satisfied():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def send(guest: Guest, count: int) -> None:
    """Send frames one by one; each buffer is back before the next is offered, which is not waited for asleep."""
    for _ in range(count):
        guest.submit([header() + FRAME], (), queue=TRANSMITQ)
        guest.kick(TRANSMITQ)
        until(lambda: bool(guest.drivers[TRANSMITQ].reap_completions()))


def test_a_driver_that_did_not_ask_is_told_of_each(guest: Any, wire: Wire, rings: dict[str, Any]) -> None:
    features = rings.pop("features") & ~EVENT_IDX
    driver = guest(open_net(wire), features=features, **rings)
    nic = Nic(driver)
    nic.post(3)
    for number in range(3):
        assert wire.send([FRAME]) == 1
        assert told(driver, RECEIVEQ) == number + 1


def test_received_frames_wait_for_a_number(guest: Any, wire: Wire, rings: dict[str, Any]) -> None:
    driver = guest(open_net(wire), **rings)
    limit(driver, RECEIVEQ, 8, LONG)
    Nic(driver).post(20)
    for count in range(1, 17):
        assert wire.send([FRAME]) == 1
        driver.drivers[RECEIVEQ].reap_completions()
        if count % 8 == 0:
            driver.drivers[RECEIVEQ].request_notifications()
        assert told(driver, RECEIVEQ) == count // 8


def test_a_burst_that_reaches_the_number_is_told_at_once(
    guest: Any, wire: Wire, rings: dict[str, Any]
) -> None:
    driver = guest(open_net(wire), **rings)
    limit(driver, RECEIVEQ, 8, LONG)
    Nic(driver).post(20)
    assert wire.send([FRAME] * 3) == 3
    assert told(driver, RECEIVEQ) == 0
    assert wire.send([FRAME] * 6) == 6
    assert told(driver, RECEIVEQ) == 1


@pytest.mark.parametrize("readable", [False, True], ids=["delivered", "fetched"])
@pytest.mark.parametrize("poll_us", [0, 200])
def test_received_frames_wait_for_a_time(
    guest: Any, rings: dict[str, Any], readable: bool, poll_us: int
) -> None:
    wire = Wire(readable=readable)
    driver = guest(open_net(wire), poll_us=poll_us, **rings)
    limit(driver, RECEIVEQ, 1000, 2000)
    Nic(driver).post(20)
    for count in range(1, 4):
        wire.offer([FRAME]) if readable else wire.send([FRAME])
        assert select.select([driver.calls[RECEIVEQ]], [], [], 20)[0]
        os.eventfd_read(driver.calls[RECEIVEQ])
        assert told(driver, RECEIVEQ) == count
        assert len(driver.drivers[RECEIVEQ].reap_completions()) == 1
        driver.drivers[RECEIVEQ].request_notifications()


def test_a_full_ring_is_told_at_once(guest: Any, wire: Wire, rings: dict[str, Any]) -> None:
    driver = guest(open_net(wire), **rings)
    limit(driver, RECEIVEQ, 1000, LONG)
    Nic(driver).post(2)
    assert wire.send([FRAME]) == 1
    assert told(driver, RECEIVEQ) == 0
    assert wire.send([FRAME, FRAME]) == 1
    assert told(driver, RECEIVEQ) == 1


def test_a_full_ring_is_told_of_what_waited(guest: Any, wire: Wire, rings: dict[str, Any]) -> None:
    driver = guest(open_net(wire), **rings)
    limit(driver, RECEIVEQ, 1000, LONG)
    Nic(driver).post(2)
    assert wire.send([FRAME, FRAME]) == 2
    assert told(driver, RECEIVEQ) == 0
    assert wire.send([FRAME]) == 0
    assert told(driver, RECEIVEQ) == 1


def test_sent_frames_wait_for_a_number(guest: Any, rings: dict[str, Any]) -> None:
    driver = guest(open_net(NullLink()), **rings)
    limit(driver, TRANSMITQ, 8, LONG)
    send(driver, 7)
    assert told(driver, TRANSMITQ) == 0
    send(driver, 1)
    until(lambda: told(driver, TRANSMITQ) == 1)


@pytest.mark.parametrize("poll_us", [0, 200])
def test_sent_frames_wait_for_a_time(guest: Any, rings: dict[str, Any], poll_us: int) -> None:
    driver = guest(open_net(NullLink()), poll_us=poll_us, **rings)
    limit(driver, TRANSMITQ, 1000, 2000)
    for count in range(1, 4):
        send(driver, 1)
        driver.drivers[TRANSMITQ].request_notifications()
        until(lambda count=count: told(driver, TRANSMITQ) == count)  # type: ignore[misc]


@pytest.mark.parametrize("queue", [RECEIVEQ, TRANSMITQ])
@pytest.mark.parametrize(
    ("packets", "usecs"), [(3, LONG), (1000, 1), (0, LONG), (1000, 0)], ids=["packets", "time", "none", "off"]
)
def test_other_limits_end_a_wait(
    guest: Any, wire: Wire, rings: dict[str, Any], queue: int, packets: int, usecs: int
) -> None:
    driver = guest(open_net(wire), **rings)
    limit(driver, queue, 1000, LONG)
    if queue == RECEIVEQ:
        Nic(driver).post(20)
        wire.send([FRAME] * 5)
    else:
        send(driver, 5)
    assert told(driver, queue) == 0
    kind = ctrl.CTRL_NOTF_COAL_TX_SET if queue == TRANSMITQ else ctrl.CTRL_NOTF_COAL_RX_SET
    ask(driver, kind, struct.pack("<II", packets, usecs))
    until(lambda: told(driver, queue) == 1)


@pytest.mark.parametrize("queue", [RECEIVEQ, TRANSMITQ])
@pytest.mark.parametrize("how", ["stop", "disable"])
def test_a_stop_ends_a_wait(guest: Any, wire: Wire, rings: dict[str, Any], queue: int, how: str) -> None:
    driver = guest(open_net(wire), **rings)
    limit(driver, queue, 1000, LONG)
    if queue == RECEIVEQ:
        Nic(driver).post(20)
        wire.send([FRAME] * 5)
    else:
        send(driver, 5)
    assert not select.select([driver.calls[queue]], [], [], 0)[0]
    vring = driver.attachment.vrings[queue]
    vring.stop() if how == "stop" else vring.set_enabled(False)
    assert select.select([driver.calls[queue]], [], [], 0)[0]


def test_each_queue_has_its_own_limits(guest: Any, wire: Wire, rings: dict[str, Any]) -> None:
    driver = guest(open_net(wire, num_queues=2), **{**rings, "features": rings["features"] | MQ})
    for kind in (ctrl.CTRL_NOTF_COAL_RX_SET, ctrl.CTRL_NOTF_COAL_TX_SET):
        ask_two(driver, kind, struct.pack("<II", 4, LONG))
    ask_two(driver, ctrl.CTRL_NOTF_COAL_VQ_SET, struct.pack("<HHII", 2, 0xFFFF, 5, LONG))
    for queue, packets in enumerate((4, 4, 5, 4)):
        answer = ask_two(driver, ctrl.CTRL_NOTF_COAL_VQ_GET, struct.pack("<HH", queue, 0xFFFF), room=8)
        assert struct.unpack("<II", answer) == (packets, LONG)


MQ = feature_bits.mask(net.F_MQ)


def ask_two(guest: Guest, command: int, data: bytes, *, room: int = 0) -> bytes:
    """As `ask`, of a NIC with two pairs, whose control queue is the fifth."""
    head = bytes((ctrl.CTRL_NOTF_COAL, command))
    answer = guest.ask([head, data], [1, room] if room else [1], queue=4)
    whole = b"".join(answer.parts)
    assert whole[0] == ctrl.OK
    return whole[1:]


@pytest.mark.parametrize("queue", [RECEIVEQ, TRANSMITQ])
def test_an_idle_queue_sleeps(guest: Any, wire: Wire, rings: dict[str, Any], queue: int) -> None:
    driver = guest(open_net(wire), **rings)
    limit(driver, queue, 2, 1000)
    if queue == RECEIVEQ:
        Nic(driver).post(20)
        wire.send([FRAME] * 3)
    else:
        send(driver, 3)
    stats = driver.attachment.vrings[queue].stats
    time.sleep(0.05)  # the last timer has expired
    before = stats()["sleeps"]
    time.sleep(0.05)
    assert stats()["sleeps"] == before


class Sleeper:
    """Receives with a driver that looks at its ring only when it is notified."""

    RING = 64
    SIZE = 128

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.driver = guest.drivers[RECEIVEQ]
        for index in range(self.RING):
            self._offer(index)
        guest.kick(RECEIVEQ)

    def _offer(self, index: int) -> None:
        self.driver.add_buffers((), [(BASE + ARENA + index * self.SIZE, self.SIZE)], index)

    def take(self) -> int:
        """How many frames have come, asleep until there is one."""
        while not (found := self.driver.reap_completions()):
            if not self.driver.request_notifications():
                call = self.guest.calls[RECEIVEQ]
                assert select.select([call], [], [], 20)[0], "a notification was lost"
                os.eventfd_read(call)
        for index, _ in found:
            self._offer(index)
        self.driver.publish_added()
        return len(found)


@pytest.mark.parametrize(("packets", "usecs"), [(16, 100), (3, 2000), (1000, 50)])
def test_no_notification_is_lost_on_receiving(
    guest: Any, wire: Wire, rings: dict[str, Any], packets: int, usecs: int
) -> None:
    number = 2000
    driver = guest(open_net(wire), **rings)
    limit(driver, RECEIVEQ, packets, usecs)
    sleeper = Sleeper(driver)

    def deliver() -> None:
        done = 0
        while done < number:
            taken = wire.send([FRAME] * min(1 + done % 7, number - done))
            done += taken
            if not taken:
                time.sleep(0.0001)

    sender = threading.Thread(target=deliver)
    sender.start()
    seen = 0
    while seen < number:
        seen += sleeper.take()
    sender.join()
    assert seen == number


@pytest.mark.parametrize(("packets", "usecs"), [(16, 100), (3, 2000), (1000, 50)])
def test_no_notification_is_lost_on_sending(
    guest: Any, rings: dict[str, Any], packets: int, usecs: int
) -> None:
    driver = guest(open_net(NullLink()), **rings)
    limit(driver, TRANSMITQ, packets, usecs)
    ring = driver.drivers[TRANSMITQ]
    address = driver.place(72)
    driver.memory.write(address, header() + FRAME)
    outstanding = done = 0
    while done < 2000:
        while outstanding < 1 + done % 40:
            ring.add_buffers([(address, 72)], (), 1)
            outstanding += 1
        driver.kick(TRANSMITQ)
        while not (found := ring.reap_completions()):
            if not ring.request_notifications():
                call = driver.calls[TRANSMITQ]
                assert select.select([call], [], [], 20)[0], "a notification was lost"
                os.eventfd_read(call)
        outstanding -= len(found)
        done += len(found)


def test_a_nic_without_the_features_has_no_such_commands(guest: Any, wire: Wire) -> None:
    device: Net = open_net(wire)
    driver = guest(device, features=VERSION_1 | feature_bits.mask(net.F_CTRL_VQ))
    answer = driver.ask([bytes((ctrl.CTRL_NOTF_COAL, 0)), bytes(8)], [1], queue=CONTROLQ)
    assert answer.parts == [bytes([ctrl.ERR])]
    assert device.coalescing.delay(0) is None
