"""What the world sends: into the driver's buffers, however they are cut, finished as it wants."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
from net_guest import Nic, open_net
from packets import Packet, parse
from ring_guest import BASE, MEMORY

from virtio.devices.net import Net
from virtio.errors import RingError
from virtio.memory import GuestMemory, Mapping
from virtio.spec import features as feature_bits
from virtio.spec import net
from virtio.testing.wire import Wire, WireFrame

VERSION_1 = 1 << feature_bits.VERSION_1
MERGE = feature_bits.mask(net.F_MRG_RXBUF)
GUEST = feature_bits.mask(net.F_GUEST_CSUM, net.F_GUEST_TSO4, net.F_GUEST_TSO6, net.F_GUEST_ECN)
FRAME = bytes(range(1, 251))


@pytest.fixture(params=[False, True], ids=["sends", "is fetched from"])
def wire(request: Any) -> Iterator[Wire]:
    wire = Wire(readable=request.param)
    yield wire
    wire.close()


@pytest.fixture(params=[False, True], ids=["split", "packed"])
def packed(request: Any) -> bool:
    return bool(request.param)


def give(wire: Wire, *frames: Any) -> None:
    """Hand the NIC frames, the one way or the other."""
    if wire.receive_fd(0) >= 0:
        wire.offer(list(frames))
    else:
        left, deadline = list(frames), time.monotonic() + 20
        while left := left[wire.send(left) :]:  # the queue's worker may not have begun yet
            assert time.monotonic() < deadline
            time.sleep(0.001)


def drops(device: Net, reason: str) -> int:
    return device.nic.stats()["receive"][0][reason]


def test_frames_arrive_in_order(guest: Any, wire: Wire, packed: bool) -> None:
    nic = Nic(guest(open_net(wire), packed=packed))
    for _ in range(10):
        nic.post(40)
        frames = [bytes((n,)) * (14 + n) for n in range(40)]
        give(wire, *frames)
        received = nic.take(40)
        assert [frame.data for frame in received] == frames
        assert all((frame.flags, frame.gso_type, frame.buffers) == (0, 0, 1) for frame in received)


def test_frames_of_all_kinds_in_a_burst_keep_their_order(guest: Any, wire: Wire, packed: bool) -> None:
    """Those that are copied together, and between them one of each that is not."""
    nic = Nic(guest(open_net(wire), features=VERSION_1 | MERGE | GUEST, packed=packed))
    plain = [bytes((n,)) * (60 + n) for n in range(20)]
    frames = [
        *plain[:5],
        FRAME[:13],
        *plain[5:9],
        FRAME * 4,
        *plain[9:12],
        WireFrame(FRAME, flags=2),
        *plain[12:],
    ]
    expected = [*plain[:9], FRAME * 4, *plain[9:12], FRAME, *plain[12:]]
    for _ in range(5):
        nic.post(30, 300)
        give(wire, *frames)
        received = nic.take(22)
        assert [frame.data for frame in received] == expected
        assert [frame.buffers for frame in received] == [
            4 if len(frame.data) == 1000 else 1 for frame in received
        ]
        assert [frame.flags for frame in received] == [2 * (frame.data == FRAME) for frame in received]


@pytest.mark.parametrize("sizes", [(12, 2000), (5, 7, 100, 2000), (10, 500, 500), (13, 1, 1, 2000)])
@pytest.mark.parametrize("merge", [0, MERGE])
def test_buffers_may_be_cut_anywhere(guest: Any, wire: Wire, sizes: Any, merge: int, packed: bool) -> None:
    nic = Nic(guest(open_net(wire), features=VERSION_1 | merge, packed=packed))
    nic.post(4, *sizes)
    give(wire, FRAME, FRAME[:100], FRAME, FRAME)
    assert [frame.data for frame in nic.take(4)] == [FRAME, FRAME[:100], FRAME, FRAME]


@pytest.mark.parametrize(("merge", "length"), [(0, 10), (MERGE, 12)])
def test_the_legacy_header(guest: Any, wire: Wire, merge: int, length: int) -> None:
    nic = Nic(guest(open_net(wire), features=merge, legacy=True), length=length)
    nic.post(2, 10, 1514)
    give(wire, FRAME, FRAME)
    assert [(frame.data, frame.buffers) for frame in nic.take(2)] == [(FRAME, 1)] * 2


def test_big_endian_legacy_fields(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire)
    nic = Nic(guest(device, features=feature_bits.mask(net.F_GUEST_CSUM) | MERGE, legacy=True), order=">")
    device.nic.set_features(feature_bits.mask(net.F_GUEST_CSUM, net.F_MRG_RXBUF), big_endian=True)
    nic.post(3)
    wire.send([WireFrame(FRAME, flags=1, csum_start=34, csum_offset=16), FRAME])
    first, second = nic.take(2)
    assert (first.csum_start, first.csum_offset, first.buffers, second.buffers) == (34, 16, 1, 1)


@pytest.mark.parametrize("size", [14, 255, 256, 257, 1000, 5000, 9014])
def test_a_frame_spans_as_many_buffers_as_it_takes(guest: Any, wire: Wire, size: int, packed: bool) -> None:
    nic = Nic(guest(open_net(wire), features=VERSION_1 | MERGE, packed=packed))
    nic.post(60, 256)
    data = bytes(n * 7 % 256 for n in range(size))
    give(wire, data, FRAME[:60])
    first, second = nic.take(2)
    assert (first.data, first.buffers) == (data, -(-(size + 12) // 256))
    assert (second.data, second.buffers) == (FRAME[:60], 1)


def test_what_does_not_fit_one_buffer_is_dropped_without_merging(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1))
    nic.post(3, 100)
    give(wire, FRAME[:88], FRAME[:89], FRAME[:80])
    assert [len(frame.data) for frame in nic.take(2)] == [88, 80]
    assert drops(device, "giant") == 1


def test_a_frame_longer_than_all_buffers_together_is_dropped(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device, size=16, features=VERSION_1 | MERGE))
    nic.post(16, 100)
    give(wire, bytes(2000), FRAME[:60])
    assert nic.take(1)[0].data == FRAME[:60]
    assert drops(device, "giant") == 1


def test_buffers_of_no_use_come_back(guest: Any, wire: Wire) -> None:
    nic = Nic(guest(open_net(wire), features=VERSION_1))
    useless = nic.guest.submit([b"readable"], (), queue=0)
    tiny = nic.guest.submit((), (4,), queue=0)
    nic.post(1)
    give(wire, FRAME)
    assert nic.take(1)[0].data == FRAME
    assert [answer.used for answer in nic.guest.wait(useless, tiny)] == [0, 0]


def test_runts_and_giants_of_the_world_are_dropped(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire)
    nic = Nic(guest(device))
    nic.post(40)
    assert wire.send([b"", b"x" * 13, bytes(65551), FRAME]) == 4
    assert nic.take(1)[0].data == FRAME
    assert (drops(device, "runt"), drops(device, "giant")) == (2, 1)


def tagged(size: int, *tags: bytes) -> bytes:
    return bytes(12) + b"".join(tags) + b"\x08\0" + bytes(size)


TAG, OUTER_TAG = bytes.fromhex("81000005"), bytes.fromhex("88a80006")


def test_frames_longer_than_the_mtu_are_dropped(guest: Any, wire: Wire) -> None:
    device = open_net(wire, mtu=1500)
    nic = Nic(guest(device))
    nic.post(8, 4000)
    sizes = [(1500,), (1501,), (1500, TAG), (1501, TAG), (1500, OUTER_TAG, TAG), (1501, OUTER_TAG, TAG)]
    frames = [tagged(*size) for size in sizes]
    give(wire, *frames, tagged(1500, TAG, TAG, TAG), FRAME)
    assert [frame.data for frame in nic.take(4)] == [*frames[::2], FRAME]
    assert drops(device, "giant") == 4


def test_an_mtu_does_not_limit_what_the_driver_segments(guest: Any, wire: Wire) -> None:
    device = open_net(wire, mtu=1500)
    nic = Nic(guest(device, features=VERSION_1 | MERGE | GUEST | feature_bits.mask(net.F_MTU)))
    nic.post(4, 9000)
    packet = Packet(b"p" * 4380)
    head = {"flags": 1, "gso_type": 1, "csum_start": packet.transport_at, "csum_offset": 16, "hdr_len": 54}
    give(wire, WireFrame(packet.frame(), gso_size=1460, **head))
    assert nic.take(1)[0].data == packet.frame()


def test_pieces_longer_than_the_mtu_are_dropped(guest: Any, wire: Wire) -> None:
    device = open_net(wire, mtu=1500)
    nic = Nic(guest(device, features=VERSION_1 | MERGE | feature_bits.mask(net.F_MTU)))
    nic.post(10, 9000)
    packet = Packet(b"p" * 4380)
    head = {"flags": 1, "gso_type": 1, "csum_start": packet.transport_at, "csum_offset": 16, "hdr_len": 54}
    give(wire, *(WireFrame(packet.frame(), gso_size=size, **head) for size in (1461, 1460)))
    assert [len(frame.data) for frame in nic.take(3)] == [1514] * 3
    assert drops(device, "giant") == 1


def test_checksums_that_were_found_right_are_counted(guest: Any, wire: Wire) -> None:
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1 | GUEST))
    nic.post(4)
    valid, partial = WireFrame(FRAME, flags=2), WireFrame(FRAME, flags=1, csum_start=34)
    give(wire, valid, partial, FRAME, valid)
    assert [frame.flags for frame in nic.take(4)] == [2, 1, 0, 2]
    counted = device.nic.stats()["receive"][0]
    assert (counted["valid"], counted["partial"], counted["frames"]) == (2, 1, 4)


# Room.


def test_without_room_the_sender_keeps_the_frames(guest: Any, packed: bool) -> None:
    wire = Wire()
    nic = Nic(guest(open_net(wire), packed=packed))
    assert wire.send([FRAME]) == 0
    nic.post(2)
    assert wire.send([FRAME] * 5) == 2
    nic.take(2)
    nic.post(1)
    assert wire.send([FRAME] * 5) == 1


def test_a_link_that_is_fetched_from_goes_on_when_there_is_room(guest: Any, packed: bool) -> None:
    wire = Wire(readable=True)
    nic = Nic(guest(open_net(wire), packed=packed))
    wire.offer([bytes((n,)) * 60 for n in range(100)])
    for n in range(100):
        nic.post(1)
        assert nic.take(1)[0].data[0] == n
    wire.close()


def test_a_frame_waits_for_enough_buffers(guest: Any, packed: bool) -> None:
    wire = Wire(readable=True)
    nic = Nic(guest(open_net(wire), features=VERSION_1 | MERGE, packed=packed))
    data = bytes(n % 251 for n in range(3000))
    wire.offer([data])
    for _ in range(12):
        nic.post(1, 256)
    assert nic.take(1)[0].data == data
    wire.close()


def test_no_processor_time_while_there_is_no_room(guest: Any) -> None:
    wire = Wire(readable=True)
    nic = Nic(guest(open_net(wire)))
    nic.post(1)
    wire.offer([FRAME] * 10)
    nic.take(1)
    worker = nic.guest.attachment.vrings[0]
    before = worker.stats()["sleeps"]
    nic.post(1)
    nic.take(1)
    # Two rounds, each with a sleep or two: a loop around a readable descriptor would have had thousands.
    assert worker.stats()["sleeps"] - before < 20
    assert wire.left == 8
    wire.close()


def test_notifications_are_not_sent_to_a_driver_that_does_not_want_them(guest: Any) -> None:
    wire = Wire()
    nic = Nic(guest(open_net(wire), features=VERSION_1))
    vring = nic.guest.attachment.vrings[0]
    nic.post(10)
    nic.guest.drivers[0].suppress_notifications()
    assert wire.send([FRAME] * 10) == 10
    assert vring.stats()["suppressed"] == 1
    assert vring.stats()["notifications"] == 0
    nic.take(10)


def test_a_driver_without_a_call_fd_is_told_in_band(guest: Any, wire: Wire) -> None:
    nic = Nic(guest(open_net(wire)))
    attachment = nic.guest.attachment
    told = os.eventfd(0)
    attachment._on_call = lambda index: os.eventfd_write(told, 1)
    attachment.vrings[0].set_call(None)
    nic.post(1)
    give(wire, FRAME)
    assert select.select([told], [], [], 20)[0]
    assert nic.take(1)[0].data == FRAME
    os.close(told)


# Offloads.


def unfinished(packet: Packet, gso_type: int, size: int) -> WireFrame:
    return WireFrame(packet.frame(), 0, 1, gso_type, packet.headers, size, packet.transport_at, 16)


def test_a_driver_that_takes_it_gets_the_frame_unfinished(guest: Any, wire: Wire) -> None:
    nic = Nic(guest(open_net(wire), features=VERSION_1 | MERGE | GUEST))
    nic.post(10)
    packet = Packet(b"s" * 9000)
    give(wire, unfinished(packet, net.HDR_GSO_TCPV4, 1000), unfinished(packet, 0, 0))
    first, second = nic.take(2)
    assert first.data == second.data == packet.frame()
    assert (first.flags, first.gso_type, first.hdr_len, first.gso_size) == (1, 1, packet.headers, 1000)
    assert (first.csum_start, first.csum_offset) == (packet.transport_at, 16)
    assert (second.flags, second.gso_type) == (1, 0)


def test_a_driver_that_does_not_gets_finished_frames(guest: Any, wire: Wire, packed: bool) -> None:
    nic = Nic(guest(open_net(wire), features=VERSION_1, packed=packed))
    nic.post(20)
    packet = Packet(b"s" * 9000)
    give(wire, FRAME, unfinished(packet, net.HDR_GSO_TCPV4, 1000), unfinished(Packet(b"t" * 9), 0, 0))
    frames = nic.take(11)
    assert all((frame.flags, frame.gso_type) == (0, 0) for frame in frames)
    assert frames[0].data == FRAME
    assert b"".join(parse(frame.data, packet).payload for frame in frames[1:10]) == packet.payload
    assert parse(frames[10].data, packet).payload == b"t" * 9


def test_the_driver_may_change_what_it_takes(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1 | MERGE | GUEST))
    nic.post(30)
    packet = Packet(b"s" * 3000)
    wire.send([unfinished(packet, net.HDR_GSO_TCPV4, 1000)])
    assert nic.take(1)[0].gso_type == 1
    device.nic.set_offloads(feature_bits.mask(net.F_GUEST_CSUM))
    wire.send([unfinished(packet, net.HDR_GSO_TCPV4, 1000)])
    assert [frame.gso_type for frame in nic.take(3)] == [0, 0, 0]


def test_segments_beyond_the_room_are_dropped_and_counted(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1))
    frame = unfinished(Packet(b"s" * 3000), net.HDR_GSO_TCPV4, 1000)
    assert wire.send([frame]) == 0
    nic.post(2)
    assert wire.send([frame]) == 1
    assert len(nic.take(2)) == 2
    assert drops(device, "full") == 1


def test_an_unfinished_frame_without_sense_is_dropped(guest: Any) -> None:
    wire = Wire()
    device = open_net(wire)
    nic = Nic(guest(device, features=VERSION_1))
    nic.post(2)
    assert wire.send([WireFrame(FRAME, 0, 1, net.HDR_GSO_TCPV4, 0, 100, 34, 16), FRAME]) == 2
    assert nic.take(1)[0].data == FRAME
    assert drops(device, "offload") == 1


# Stopping, and what a hostile driver does.


def test_unused_buffers_go_back_when_the_queue_stops(guest: Any, packed: bool) -> None:
    wire = Wire()
    nic = Nic(guest(open_net(wire), features=VERSION_1 | MERGE, packed=packed))
    nic.post(3, 256)
    assert wire.send([bytes(1000)]) == 0  # three buffers were taken for it, and are too few
    vring = nic.guest.attachment.vrings[0]
    state = vring.stop()
    assert (state.avail_index, state.used_index) == (0, 0)
    assert wire.send([FRAME]) == 0
    vring.set_state(state)
    vring.start()
    nic.post(1, 256)
    while wire.send([bytes(1000)]) == 0:
        pass
    assert nic.take(1)[0].data == bytes(1000)


def test_other_memory_while_buffers_were_taken(guest: Any, packed: bool) -> None:
    wire = Wire()
    nic = Nic(guest(open_net(wire), features=VERSION_1 | MERGE, packed=packed))
    nic.post(3, 256)
    assert wire.send([bytes(1000)]) == 0
    other = GuestMemory([Mapping.from_fd(nic.guest.fd, MEMORY, guest_address=BASE)])
    nic.guest.attachment.set_memory(other)
    nic.post(1, 256)
    while wire.send([bytes(1000)]) == 0:
        pass
    assert nic.take(1)[0].data == bytes(1000)


def test_a_malformed_ring_stops_the_queue_and_nothing_else(guest: Any, wire: Wire) -> None:
    nic = Nic(guest(open_net(wire), features=VERSION_1))
    nic.post(1)
    nic.guest.drivers[0].add_buffers((), [(0xDEAD_0000_0000, 2048)], 999)
    nic.guest.kick()
    if wire.receive_fd(0) >= 0:
        wire.offer([FRAME] * 2)
    else:
        assert wire.send([FRAME] * 2) == 1
    while not nic.guest.faults:
        time.sleep(0.001)
    assert isinstance(nic.guest.faults[0], RingError)
    nic.guest.faults.clear()
    assert nic.take(1)[0].data == FRAME
    nic.send(FRAME)
    assert wire.wait(1)[0].data == FRAME
