"""Whatever a driver or the world hands over: nothing crashes, and every frame is passed on or counted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net_guest import Nic, await_worker, header, open_net
from packets import Packet
from ring_guest import ARENA, BASE

from virtio.devices.net import Net
from virtio.devices.net.nic import REASONS
from virtio.spec import features as feature_bits
from virtio.spec import net
from virtio.spec import net_control as ctrl
from virtio.testing.wire import Wire, WireFrame

EXAMPLES = 150
VERSION_1 = 1 << feature_bits.VERSION_1
EVERY_OFFLOAD = feature_bits.mask(
    net.F_CSUM, net.F_HOST_TSO4, net.F_HOST_TSO6, net.F_HOST_ECN, net.F_HOST_UFO, net.F_HOST_USO
)
GUEST_OFFLOADS = feature_bits.mask(
    net.F_GUEST_CSUM,
    net.F_GUEST_TSO4,
    net.F_GUEST_TSO6,
    net.F_GUEST_ECN,
    net.F_GUEST_UFO,
    net.F_GUEST_USO4,
    net.F_GUEST_USO6,
)
JOINING = GUEST_OFFLOADS | feature_bits.mask(net.F_CSUM, net.F_HOST_TSO4, net.F_RSC_EXT)
FRAME = bytes(range(60))

numbers = st.integers(0, 100) | st.integers(0, 0xFFFF) | st.sampled_from([0xFFFE, 0xFFFF, 1448, 14, 34, 54])
types = st.sampled_from([0, 1, 3, 4, 5, 0x80, 0x81, 0x84]) | st.integers(0, 255)
heads = st.builds(header, st.integers(0, 3) | st.integers(0, 255), types, numbers, numbers, numbers, numbers)
packets = st.builds(
    lambda size, six, protocol, tags: Packet(bytes(size), six=six, protocol=protocol, tags=tags).frame(),
    st.integers(0, 4000),
    st.booleans(),
    st.sampled_from([6, 17]),
    st.integers(0, 2),
)


@st.composite
def frames(draw: Any) -> bytes:
    """A packet, perhaps with bytes exchanged and cut short, or no packet at all."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=120))
    data = bytearray(draw(packets))
    for at, value in draw(st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=4)).items():
        data[at % len(data)] = value
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])


cuts = st.lists(st.integers(1, 100), max_size=8)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """``data`` as the buffers of a chain."""
    ends = sorted({place for place in places if place < len(data)} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


def counters(device: Net, kind: str) -> dict[str, int]:
    return dict(device.nic.stats()[kind][0])


def gained(device: Net, kind: str, before: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in counters(device, kind).items()}


@pytest.mark.parametrize("offloads", [0, EVERY_OFFLOAD], ids=["finished", "unfinished"])
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_any_frame_that_a_driver_sends(guest: Any, packed: bool, offloads: int) -> None:
    wire = Wire(offloads=offloads)
    device = open_net(wire, mtu=1500)
    driver = guest(device, packed=packed)

    @settings(max_examples=EXAMPLES)
    @given(sent=st.lists(st.tuples(st.binary(max_size=14) | heads, frames(), cuts), min_size=1, max_size=4))
    def check(sent: list[tuple[bytes, bytes, list[int]]]) -> None:
        before = counters(device, "transmit")
        tokens = [
            driver.submit(cut(head + frame, places) or [b"\0"], (), queue=1) for head, frame, places in sent
        ]
        driver.kick(1)
        assert all(answer.used == 0 for answer in driver.wait(*tokens))
        driver.recycle()
        change = gained(device, "transmit", before)
        refused = sum(change[reason] for reason in ("runt", "giant", "header"))
        assert change["sent"] + refused == len(sent)
        whole = change["frames"] - change["pieces"]
        assert 0 <= whole <= change["sent"]
        seen = wire.wait(change["frames"])
        assert sum(len(frame.data) for frame in seen) == change["bytes"]
        for frame in seen:
            limit = 65550 if frame.gso_type else 1500 + 14 + 8
            assert 14 <= len(frame.data) <= limit
            if frame.flags & 1:
                assert offloads
                assert frame.csum_start + frame.csum_offset + 2 <= len(frame.data)

    check()
    Nic(driver).send(FRAME)
    assert wire.wait(1) == [WireFrame(FRAME)]


class Ring:
    """A receive ring that is kept full of buffers of two parts each."""

    CHAINS, SIZE = 32, 2048

    def __init__(self, guest: Any, first: int) -> None:
        self.guest = guest
        self.first = first
        for index in range(self.CHAINS):
            self._offer(index)
        guest.kick(0)
        await_worker(guest, 0)

    def _offer(self, index: int) -> None:
        at = BASE + ARENA + index * self.SIZE
        parts = [(at, self.first), (at + self.first, self.SIZE - self.first)]
        self.guest.drivers[0].add_buffers((), parts, index)

    def take(self) -> list[int]:
        """The used length of each buffer that has come back; they are offered again."""
        found = self.guest.drivers[0].reap_completions()
        for index, _ in found:
            self._offer(index)
        self.guest.drivers[0].publish_added()
        return [used for _, used in found]


@pytest.mark.parametrize("first", [1, 100])
@pytest.mark.parametrize("merge", [0, feature_bits.mask(net.F_MRG_RXBUF)], ids=["one", "merge"])
@pytest.mark.parametrize("takes", [0, GUEST_OFFLOADS, JOINING], ids=["finished", "unfinished", "joined"])
def test_any_frame_that_the_world_sends(guest: Any, takes: int, merge: int, first: int) -> None:
    wire = Wire()
    device = open_net(wire, mtu=1500)
    ring = Ring(guest(device, features=VERSION_1 | feature_bits.mask(net.F_MTU) | merge | takes), first)
    fields = st.integers(0, 255), types, numbers, numbers, numbers, numbers

    @settings(max_examples=EXAMPLES)
    @given(sent=st.lists(st.tuples(frames(), *fields), min_size=1, max_size=4))
    def check(sent: list[tuple[Any, ...]]) -> None:
        before = counters(device, "receive")
        left = [WireFrame(frame, 0, *head) for frame, *head in sent]
        used = []
        for _ in sent:  # one that is cut into many pieces fills the ring
            left = left[wire.send(left) :]
            used += ring.take()
        assert not left
        change = gained(device, "receive", before)
        dropped = sum(change[reason] for reason in REASONS)
        assert dropped <= len(sent) <= dropped + change["frames"]
        assert sum(used) == change["bytes"] + 12 * change["frames"]
        assert len(used) == change["frames"] or merge
        assert not ring.guest.faults

    check()


commands = st.builds(
    lambda kind, number, data: bytes((kind, number)) + data,
    st.integers(0, 10) | st.integers(0, 255),
    st.integers(0, 6) | st.integers(0, 255),
    st.binary(max_size=80) | st.integers(0, 255).map(lambda n: bytes([n]) * 24),
)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_any_command_in_any_buffers(guest: Any, packed: bool) -> None:
    device = Net(Wire(), num_queues=2, hash_report=True, mtu=1500)
    driver = guest(device, packed=packed)
    asked = 0

    @settings(max_examples=EXAMPLES)
    @given(
        command=commands | st.binary(max_size=1),
        places=cuts,
        room=st.lists(st.integers(1, 40), max_size=5),
    )
    def check(command: bytes, places: list[int], room: list[int]) -> None:
        nonlocal asked
        readable = cut(command, places)
        if not readable and not room:
            room = [1]
        answer = driver.ask(readable, room, queue=4)
        driver.recycle()
        if not room:
            assert answer.used == 0
            return
        asked += 1
        whole = b"".join(answer.parts)
        assert 1 <= answer.used <= sum(room)
        assert whole[0] in (ctrl.OK, ctrl.ERR)
        assert whole[0] == ctrl.OK or answer.used == 1
        assert whole[answer.used :] == bytes([0xEE]) * (len(whole) - answer.used)  # nothing else is written

    check()
    assert device.control.counters["commands"] == asked
    promisc = bytes((ctrl.CTRL_RX, ctrl.CTRL_RX_PROMISC, 1))
    assert driver.ask([promisc], [1], queue=4).parts == [bytes([ctrl.OK])]


def test_a_command_longer_than_any(guest: Any) -> None:
    driver = guest(Net(Wire()))
    table = bytes((ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET)) + bytes(1 << 19)
    assert driver.ask([table], [1], queue=2).parts == [bytes([ctrl.ERR])]
