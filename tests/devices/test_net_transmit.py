"""What a driver sends: frames reach the link, whatever the chains look like; nonsense is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from net_guest import Nic, header, open_net
from packets import Packet, parse

from virtio.devices.net import Net
from virtio.network import LoopLink, NullLink, open_link
from virtio.spec import features as feature_bits
from virtio.spec import net
from virtio.testing.wire import Wire, WireFrame

ALL = feature_bits.mask(net.F_CSUM, net.F_HOST_TSO4, net.F_HOST_TSO6, net.F_HOST_ECN, net.F_HOST_USO)
FRAME = bytes(range(200))


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture(params=[False, True], ids=["split", "packed"])
def packed(request: Any) -> bool:
    return bool(request.param)


def drops(device: Net, reason: str) -> int:
    return device.nic.stats()["transmit"][0][reason]


def test_frames_arrive_in_order_and_the_buffers_come_back(guest: Any, wire: Wire, packed: bool) -> None:
    nic = Nic(guest(open_net(wire), packed=packed))
    for _ in range(10):
        frames = [bytes((n,)) * (60 + n) for n in range(40)]
        assert nic.send(*frames) == [0] * 40
        assert [seen.data for seen in wire.wait(40)] == frames


@pytest.mark.parametrize("parts", [(12,), (1,), (5, 12, 13), (12, 26, 27, 28, 100), (40,), range(1, 30)])
def test_chains_may_be_cut_anywhere(guest: Any, wire: Wire, parts: Any, packed: bool) -> None:
    nic = Nic(guest(open_net(wire), packed=packed))
    nic.send(FRAME, head=header(), parts=list(parts))
    assert wire.wait(1) == [WireFrame(FRAME)]


@pytest.mark.parametrize(("merge", "length"), [(False, 10), (True, 12)])
def test_the_legacy_header(guest: Any, wire: Wire, merge: bool, length: int) -> None:
    features = feature_bits.mask(net.F_MRG_RXBUF) if merge else 0
    nic = Nic(guest(open_net(wire), features=features, legacy=True), length=length)
    nic.send(FRAME)
    assert wire.wait(1) == [WireFrame(FRAME)]


@pytest.mark.parametrize("size", [0, 1, 9, 12, 13, 25])
def test_runts_are_dropped(guest: Any, wire: Wire, size: int) -> None:
    device = open_net(wire)
    nic = Nic(guest(device))
    if size:
        nic.send(b"", head=bytes(size))
    else:
        nic.guest.ask((), (100,), queue=1)  # only writable
    nic.send(FRAME)
    assert [seen.data for seen in wire.wait(1)] == [FRAME]
    assert drops(device, "runt") == 1


def test_giants_are_dropped(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device))
    nic.send(bytes(65551), bytes(65550))
    assert len(wire.wait(1)[0].data) == 65550
    assert drops(device, "giant") == 1


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(header(1, csum_start=199, csum_offset=0), id="checksum beyond the frame"),
        pytest.param(header(1, csum_start=0xFFFF, csum_offset=0xFFFF), id="checksum far away"),
        pytest.param(header(1, csum_start=100, csum_offset=99), id="half a checksum"),
        pytest.param(header(1, 2, gso_size=10), id="an unknown type"),
        pytest.param(header(1, 0x7F, gso_size=10), id="all types"),
        pytest.param(header(1, net.HDR_GSO_TCPV4, gso_size=0), id="segments of nothing"),
        pytest.param(header(0, net.HDR_GSO_TCPV4, gso_size=10), id="a segment with a checksum"),
        pytest.param(header(1, net.HDR_GSO_UDP, gso_size=10), id="not negotiated"),
        pytest.param(header(1, net.HDR_GSO_UDP_L4 | net.HDR_GSO_ECN, gso_size=10), id="UDP with ECN"),
        pytest.param(header(0, net.HDR_GSO_ECN), id="ECN of nothing"),
    ],
)
def test_headers_without_sense_are_dropped(guest: Any, wire: Wire, head: bytes) -> None:
    device = open_net(wire)
    nic = Nic(guest(device, features=1 << feature_bits.VERSION_1 | ALL))
    nic.send(FRAME, head=head)
    nic.send(FRAME)
    assert wire.wait(1) == [WireFrame(FRAME)]
    assert drops(device, "header") == 1


def test_offloads_are_refused_that_were_not_negotiated(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device, features=1 << feature_bits.VERSION_1))
    nic.send(FRAME, head=header(1, csum_start=20))
    assert drops(device, "header") == 1


def test_a_link_that_takes_it_gets_the_frame_unfinished(guest: Any) -> None:
    wire = Wire(offloads=ALL)
    nic = Nic(guest(open_net(wire)))
    packet = Packet(b"p" * 5000)
    head = header(1, net.HDR_GSO_TCPV4 | net.HDR_GSO_ECN, 60000, 1448, packet.transport_at, 16)
    nic.send(packet.frame(), head=head)
    length = len(packet.frame())
    assert wire.wait(1) == [WireFrame(packet.frame(), 0, 1, 0x81, length, 1448, packet.transport_at, 16)]


@pytest.mark.parametrize("offloads", [0, feature_bits.mask(net.F_CSUM)])
def test_a_link_that_does_not_gets_finished_frames(guest: Any, offloads: int, packed: bool) -> None:
    wire = Wire(offloads=offloads)
    device = open_net(wire)
    nic = Nic(guest(device, packed=packed, size=256))
    packets = [Packet(bytes((n,)) * 40000) for n in range(12)]
    head = header(1, net.HDR_GSO_TCPV4, 54, 500, packets[0].transport_at, 16)
    nic.send(*(packet.frame() for packet in packets), head=head)
    frames = wire.wait(12 * 80)
    for n, packet in enumerate(packets):
        own = frames[80 * n : 80 * n + 80]
        assert all(seen == WireFrame(seen.data) for seen in own)
        assert b"".join(parse(seen.data, packet).payload for seen in own) == packet.payload
    assert device.nic.stats()["transmit"][0]["frames"] == 960


def test_order_is_kept_between_finished_and_other_frames(guest: Any, wire: Wire) -> None:
    nic = Nic(guest(open_net(wire)))
    packet = Packet(b"q" * 3000)
    head = header(1, net.HDR_GSO_TCPV4, 54, 1000, packet.transport_at, 16)
    tokens = []
    for n in range(6):
        tokens.append(nic.guest.submit([header() + bytes((n,)) * 60], (), queue=1))
        tokens.append(nic.guest.submit([head + packet.frame()], (), queue=1))
    nic.guest.kick(1)
    nic.guest.wait(*tokens)
    seen = [frame.data for frame in wire.wait(24)]
    assert [frame[0] for frame in seen[::4]] == [0, 1, 2, 3, 4, 5]
    assert all(len(frame) == 1054 for n, frame in enumerate(seen) if n % 4)


def test_an_unfinished_frame_without_sense_is_dropped(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device))
    nic.send(FRAME, head=header(1, net.HDR_GSO_TCPV4, 54, 100, 34, 16))
    assert drops(device, "offload") == 1


def test_what_the_link_has_no_room_for_is_counted(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device))
    wire.room = 0
    nic.send(FRAME, FRAME)
    assert drops(device, "full") == 2


def test_nothing_passes_while_the_link_is_down(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device))
    device.nic.set_link_up(False)
    nic.send(FRAME)
    nic.post(1)
    assert wire.send([FRAME]) == 1
    assert (drops(device, "down"), device.nic.stats()["receive"][0]["down"]) == (1, 1)
    device.nic.set_link_up(True)
    nic.send(FRAME)
    assert wire.wait(1) == [WireFrame(FRAME)]


def test_counters(guest: Any) -> None:
    device = open_net(Wire(offloads=ALL))
    nic = Nic(guest(device))
    packet = Packet(b"p" * 5000)
    nic.send(packet.frame(), head=header(1, 1, 54, 1448, packet.transport_at, 16))
    nic.send(packet.frame(), head=header(1, 0, 54, 0, packet.transport_at, 16))
    nic.send(FRAME)
    stats = device.nic.stats()["transmit"][0]
    size = len(packet.frame())
    assert stats["frames"] == 3
    assert stats["bytes"] == 2 * size + 200
    assert (stats["partial"], stats["segmented"], stats["segmented_bytes"]) == (2, 1, size)


@pytest.mark.parametrize("offloads", [0, ALL])
def test_what_a_driver_leaves_to_the_nic_is_counted(guest: Any, offloads: int) -> None:
    device = open_net(Wire(offloads=offloads))
    nic = Nic(guest(device))
    packet = Packet(b"p" * 5000)
    size, piece = len(packet.frame()), 54 + 1000
    nic.send(packet.frame(), packet.frame(), head=header(1, 1, 54, 1000, packet.transport_at, 16))
    nic.send(packet.frame(), head=header(1, 0, 54, 0, packet.transport_at, 16))
    nic.send(FRAME)
    stats = device.nic.stats()["transmit"][0]
    assert (stats["sent"], stats["unsummed"]) == (4, 3)
    cut = [stats[name] for name in ("cut", "cut_bytes", "pieces", "piece_bytes")]
    whole = [stats[name] for name in ("segmented", "segmented_bytes")]
    if offloads:
        assert (cut, whole) == ([0, 0, 0, 0], [2, 2 * size])
    else:
        assert (cut, whole) == ([2, 2 * size, 10, 10 * piece], [0, 0])
        assert stats["frames"] == 12


TAG, OUTER_TAG = bytes.fromhex("81000005"), bytes.fromhex("88a80006")


@pytest.mark.parametrize("tags", [b"", TAG, OUTER_TAG + TAG])
def test_frames_longer_than_the_mtu_are_dropped(guest: Any, wire: Wire, tags: bytes) -> None:
    device = open_net(wire, mtu=1500)
    nic = Nic(guest(device))
    frame = bytes(12) + tags + b"\x08\0" + bytes(1501)
    nic.send(frame, frame[:-1])
    assert wire.wait(1) == [WireFrame(frame[:-1])]
    assert drops(device, "giant") == 1


def test_a_frame_cut_into_buffers_is_measured_whole(guest: Any, wire: Wire) -> None:
    device = open_net(wire, mtu=1500)
    nic = Nic(guest(device))
    frame = bytes(12) + TAG + b"\x08\0" + bytes(1501)
    nic.send(frame, frame[:-1], parts=[5, 13, 26, 27, 29])
    assert [len(seen.data) for seen in wire.wait(1)] == [1518]


def test_what_is_still_to_be_segmented_may_be_longer(guest: Any, wire: Wire) -> None:
    nic = Nic(guest(open_net(wire, mtu=1500)))
    packet = Packet(b"p" * 4380)
    nic.send(packet.frame(), head=header(1, 1, 54, 1460, packet.transport_at, 16))
    assert [len(seen.data) for seen in wire.wait(3)] == [1514] * 3


def test_a_driver_that_does_not_know_the_mtu_is_not_held_to_it(guest: Any, wire: Wire) -> None:
    nic = Nic(guest(open_net(wire, mtu=1500), features=1 << feature_bits.VERSION_1))
    nic.send(bytes(9014))
    assert len(wire.wait(1)[0].data) == 9014


def test_the_front_end_may_tell_the_driver_another_mtu(guest: Any, wire: Wire) -> None:
    device = open_net(wire, mtu=1500)
    nic = Nic(guest(device))
    device.limit_mtu(1000)
    nic.send(bytes(1015), bytes(1014))
    assert len(wire.wait(1)[0].data) == 1014
    assert drops(device, "giant") == 1


def test_null_and_loop_take_everything(guest: Any) -> None:
    loop = open_link("loop:")
    assert isinstance(loop, LoopLink)
    assert NullLink().accepts == loop.accepts
    nic = Nic(guest(open_net(loop)))
    nic.post(3)
    nic.send(*[bytes((n,)) * 100 for n in range(4)])
    assert [frame.data[0] for frame in nic.take(3)] == [0, 1, 2]
    assert loop.stats() == {"frames": 4, "bytes": 400, "dropped": 1}
