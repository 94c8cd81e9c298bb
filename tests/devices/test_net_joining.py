"""TCP segments become one frame for a driver that wants to know how many they were (RSC_EXT)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net_guest import Nic, Received, open_net
from packets import Packet, checksum

from virtio.devices.net import Net
from virtio.network.offload import finish
from virtio.spec import features as feature_bits
from virtio.spec import net
from virtio.testing.wire import Wire, WireFrame

LARGE = feature_bits.mask(net.F_GUEST_CSUM, net.F_GUEST_TSO4, net.F_GUEST_TSO6, net.F_GUEST_USO4)
JOINS = feature_bits.mask(
    feature_bits.VERSION_1, net.F_MRG_RXBUF, net.F_CSUM, net.F_HOST_TSO4, net.F_HOST_TSO6, net.F_RSC_EXT
)
ACK, PSH = 0x10, 0x08
DATA = bytes(n * 7 % 251 for n in range(1000))
JOINED = net.HDR_F_NEEDS_CSUM | net.HDR_F_RSC_INFO
TIMESTAMPS = bytes.fromhex("0101080a 00000001 00000002")


def segments_of(whole: Packet, size: int) -> list[bytes]:
    """What a network carries of it."""
    return finish(
        whole.frame(),
        flags=1,
        gso_type=net.HDR_GSO_TCPV6 if whole.six else net.HDR_GSO_TCPV4,
        gso_size=size,
        csum_start=whole.transport_at,
        csum_offset=16,
    )


def finished(packet: Packet) -> bytes:
    """The one frame that a network carries of it."""
    (frame,) = finish(
        packet.frame(), flags=1, csum_start=packet.transport_at, csum_offset=16 if packet.protocol == 6 else 6
    )
    return frame


def changed(frame: bytes, at: int, value: int) -> bytes:
    """A frame with another byte there; its checksums are as they were."""
    return frame[:at] + bytes([value]) + frame[at + 1 :]


@pytest.fixture
def wire() -> Iterator[Wire]:
    with_room = Wire()
    yield with_room
    with_room.close()


@pytest.fixture
def make_nic(guest: Any, wire: Wire) -> Callable[..., tuple[Net, Nic]]:
    def make(
        features: int = JOINS | LARGE, posted: int = 60, length: int = 12, **options: Any
    ) -> tuple[Net, Nic]:
        device = open_net(wire, **options)
        nic = Nic(guest(device, features=features), length=length)
        nic.post(posted)
        return device, nic

    return make


def alone(frames: Sequence[Received], given: Sequence[bytes]) -> bool:
    """Did each come by itself, as it was?"""
    return [(f.data, f.flags, f.gso_type) for f in frames] == [(frame, 0, 0) for frame in given]


@pytest.mark.parametrize("tcp_options", [b"", TIMESTAMPS], ids=["", "timestamps"])
@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_segments_become_what_they_were_cut_from(
    make_nic: Any, wire: Wire, six: bool, tags: int, tcp_options: bytes
) -> None:
    _, nic = make_nic()
    whole = Packet(DATA, six=six, tags=tags, tcp_options=tcp_options)
    assert wire.send(segments_of(whole, 300)) == 4
    (frame,) = nic.take(1)
    assert frame.data == whole.frame()
    assert frame.flags == JOINED
    assert (frame.csum_start, frame.csum_offset) == (4, 0)
    assert frame.gso_type == (net.HDR_GSO_TCPV6 if six else net.HDR_GSO_TCPV4)
    assert (frame.gso_size, frame.hdr_len) == (300, whole.headers)


def test_a_burst_of_several_connections(make_nic: Any, wire: Wire) -> None:
    device, nic = make_nic()
    one, two = Packet(DATA), Packet(DATA, six=True)
    other = finished(Packet(b"a question", protocol=17))
    wire.send([*segments_of(one, 400), other, *segments_of(two, 100), other])
    frames = nic.take(4)
    assert [frame.data for frame in frames] == [one.frame(), other, two.frame(), other]
    assert [frame.csum_start for frame in frames] == [3, 0, 10, 0]
    counters = device.nic.stats()["receive"][0]
    assert (counters["frames"], counters["segmented"], counters["joined"]) == (4, 2, 2)
    assert counters["joined_bytes"] == len(one.frame()) + len(two.frame())


@pytest.mark.parametrize(
    "features",
    [
        JOINS & ~feature_bits.mask(net.F_RSC_EXT) | LARGE,
        JOINS | feature_bits.mask(net.F_GUEST_CSUM, net.F_GUEST_TSO6),
    ],
    ids=["without RSC_EXT", "without GUEST_TSO4"],
)
def test_for_other_drivers_nothing_is_joined(make_nic: Any, wire: Wire, features: int) -> None:
    _, nic = make_nic(features)
    frames = segments_of(Packet(DATA), 300)
    wire.send(frames)
    assert alone(nic.take(4), frames)


def test_a_driver_may_want_it_no_more(make_nic: Any, wire: Wire) -> None:
    device, nic = make_nic()
    device.nic.set_offloads(0)
    frames = segments_of(Packet(DATA), 300)
    wire.send(frames)
    assert alone(nic.take(4), frames)


A = Packet(DATA[:100], flags=ACK)
B = replace(A, sequence=A.sequence + 100, id=A.id + 1)
UNLIKE = {
    "a gap": replace(B, sequence=B.sequence + 1),
    "again": replace(B, sequence=A.sequence),
    "longer": replace(B, payload=DATA[:101]),
    "no data: an ACK": replace(B, payload=b""),
    "FIN": replace(B, flags=ACK | 1),
    "SYN": replace(B, flags=ACK | 2),
    "RST": replace(B, flags=ACK | 4),
    "URG": replace(B, flags=ACK | 0x20),
    "ECE": replace(B, flags=ACK | 0x40),
    "CWR": replace(B, flags=ACK | 0x80),
    "no ACK": replace(B, flags=0),
    "TCP options": replace(B, tcp_options=TIMESTAMPS),
    "IP options": replace(B, options=bytes(8)),
    "a tag": replace(B, tags=1),
    "UDP": replace(B, protocol=17),
    "IPv6": replace(B, six=True),
}


@pytest.mark.parametrize("next", UNLIKE.values(), ids=UNLIKE.keys())
def test_what_does_not_go_on_from_one_segment_comes_alone(make_nic: Any, wire: Wire, next: Packet) -> None:
    _, nic = make_nic()
    frames = [finished(A), finished(next)]
    wire.send(frames)
    assert alone(nic.take(2), frames)


FIELDS = {"MAC": 5, "TOS": 15, "TTL": 22, "source": 29, "target": 33, "port": 35, "ACK": 45, "window": 49}


@pytest.mark.parametrize("at", FIELDS.values(), ids=FIELDS.keys())
@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_headers_that_differ(make_nic: Any, wire: Wire, at: int, six: bool) -> None:
    _, nic = make_nic()
    first, second = finished(replace(A, six=six)), bytearray(finished(replace(B, six=six)))
    if six and at > 14:
        at = {22: 21, 29: 37, 33: 53}.get(at, at + 20 if at > 33 else at)
    second[at] ^= 1
    sum_at = (54 if six else 34) + 16
    if at >= 26:  # of what TCP's checksum covers: make it right again
        second[sum_at : sum_at + 2] = bytes(2)
        ip = second[22:54] if six else second[26:34]
        sum_of = bytes(ip) + (6).to_bytes(4, "big") + (120).to_bytes(4, "big") + bytes(second[sum_at - 16 :])
        second[sum_at : sum_at + 2] = checksum(sum_of).to_bytes(2, "big")
    if 14 < at < 34 and not six:
        second[24:26] = bytes(2)
        second[24:26] = checksum(bytes(second[14:34])).to_bytes(2, "big")
    wire.send([first, bytes(second)])
    assert alone(nic.take(2), [first, bytes(second)])


@pytest.mark.parametrize("at", [25, 51, 100])
@pytest.mark.parametrize("damaged", [0, 1])
def test_damaged_ones_come_as_they_are(make_nic: Any, wire: Wire, damaged: int, at: int) -> None:
    _, nic = make_nic()
    frames = [finished(A), finished(B)]
    frames[damaged] = changed(frames[damaged], at, frames[damaged][at] ^ 0xFF)
    wire.send(frames)
    assert alone(nic.take(2), frames)


def test_fragments_numbers_and_padding(make_nic: Any, wire: Wire) -> None:
    def fragmentable(packet: Packet) -> bytes:
        frame = bytearray(finished(packet))
        frame[20:22] = frame[24:26] = bytes(2)
        frame[24:26] = checksum(bytes(frame[14:34])).to_bytes(2, "big")
        return bytes(frame)

    _, nic = make_nic()
    frames = [fragmentable(A), fragmentable(B)]  # their numbers go on
    wire.send(frames)
    assert nic.take(1)[0].csum_start == 2
    apart = [fragmentable(A), fragmentable(replace(B, id=0))]
    wire.send(apart)
    assert alone(nic.take(2), apart)
    wire.send([finished(A), finished(replace(B, id=A.id))])  # DF: their numbers mean nothing
    assert nic.take(1)[0].csum_start == 2
    padded = [finished(A), finished(B) + bytes(2)]
    wire.send(padded)
    assert alone(nic.take(2), padded)


@pytest.mark.parametrize("last", [replace(B, payload=DATA[:99]), replace(B, flags=ACK | PSH)])
def test_a_short_or_pushed_one_is_the_last(make_nic: Any, wire: Wire, last: Packet) -> None:
    _, nic = make_nic()
    after = replace(A, sequence=last.sequence + len(last.payload))
    wire.send([finished(A), finished(last), finished(after), finished(replace(after, sequence=0))])
    joined, *rest = nic.take(3)
    assert joined.csum_start == 2
    assert joined.data[54:] == A.payload + last.payload
    assert joined.data[47] == last.flags
    assert alone(rest, [finished(after), finished(replace(after, sequence=0))])


def test_no_longer_than_an_ip_packet(make_nic: Any, wire: Wire) -> None:
    _, nic = make_nic(posted=64)
    large = Packet(bytes(8000), flags=ACK)
    frames = [finished(replace(large, sequence=n * 8000, id=n)) for n in range(10)]
    wire.send(frames)
    first, second = nic.take(2)
    assert (first.csum_start, second.csum_start) == (8, 2)
    assert first.data[54:] + second.data[54:] == bytes(80000)


@pytest.mark.parametrize("cut", [(60,), (13, 61), (54, 55, 56), (20, 34, 121)])
def test_wherever_they_lie_in_memory(make_nic: Any, wire: Wire, cut: tuple[int, ...]) -> None:
    _, nic = make_nic()
    whole = Packet(DATA[:201])
    wire.send(segments_of(whole, 67), cut=cut)
    assert nic.take(1)[0].data == whole.frame()


def test_scattered_ones_are_left_alone(make_nic: Any, wire: Wire) -> None:
    _, nic = make_nic()
    frames = segments_of(Packet(DATA[:200]), 100)
    wire.send(frames, cut=20)
    assert alone(nic.take(2), frames)


def test_somebody_elses_word_on_a_checksum(make_nic: Any, wire: Wire) -> None:
    _, nic = make_nic()
    partial = {"flags": 1, "csum_start": A.transport_at, "csum_offset": 16}
    wire.send([WireFrame(A.frame(), **partial), WireFrame(B.frame(), **partial)])
    assert nic.take(1)[0].csum_start == 2
    damaged = [changed(finished(packet), 100, 0) for packet in (A, B)]
    wire.send([WireFrame(frame, flags=net.HDR_F_DATA_VALID) for frame in damaged])
    assert nic.take(1)[0].csum_start == 2
    partial["csum_start"] += 2
    wire.send([WireFrame(A.frame(), **partial), WireFrame(B.frame(), **partial)])
    assert [frame.flags for frame in nic.take(2)] == [net.HDR_F_NEEDS_CSUM] * 2


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_a_frame_that_never_was_cut_is_explained(make_nic: Any, wire: Wire, six: bool) -> None:
    device, nic = make_nic()
    whole = Packet(DATA, six=six, options=bytes(8) if not six else bytes.fromhex("0600 010400000000"))
    kind = net.HDR_GSO_TCPV6 if six else net.HDR_GSO_TCPV4
    about = {
        "flags": 1,
        "gso_type": kind,
        "gso_size": 300,
        "csum_start": whole.transport_at,
        "csum_offset": 16,
    }
    wire.send([WireFrame(whole.frame(), **about)])
    (frame,) = nic.take(1)
    assert (frame.data, frame.flags, frame.csum_start, frame.csum_offset) == (whole.frame(), JOINED, 4, 0)
    assert device.nic.stats()["receive"][0]["joined"] == 0


@pytest.mark.parametrize("wrong", [{"gso_type": 4}, {"gso_size": 0}], ids=str)
def test_one_whose_headers_are_another_thing_is_dropped(
    make_nic: Any, wire: Wire, wrong: dict[str, int]
) -> None:
    device, nic = make_nic()
    about = {"flags": 1, "gso_type": 1, "gso_size": 300, "csum_start": 34, "csum_offset": 16, **wrong}
    wire.send([WireFrame(Packet(DATA).frame(), **about), WireFrame(DATA[:60])])
    assert nic.take(1)[0].data == DATA[:60]
    assert device.nic.stats()["receive"][0]["offload"] == 1


def test_other_protocols_are_cut(make_nic: Any, wire: Wire) -> None:
    """There is no way to say how many datagrams a frame is of, beside where its checksum is."""
    _, nic = make_nic()
    whole = Packet(DATA, protocol=17)
    about = {"flags": 1, "gso_type": 5, "gso_size": 500, "csum_start": whole.transport_at, "csum_offset": 6}
    wire.send([WireFrame(whole.frame(), **about)])
    frames = nic.take(2)
    assert b"".join(frame.data[42:] for frame in frames) == DATA
    assert [frame.flags for frame in frames] == [0, 0]


def test_a_stray_flag_goes_no_further(make_nic: Any, wire: Wire) -> None:
    _, nic = make_nic()
    wire.send([WireFrame(DATA[:60], flags=net.HDR_F_RSC_INFO, csum_start=9)])
    assert nic.take(1)[0].flags == 0


def test_without_room_nothing_is_lost(guest: Any) -> None:
    wire = Wire(readable=True)
    device = open_net(wire)
    nic = Nic(guest(device, features=JOINS | LARGE))
    nic.post(1, 700)
    whole = Packet(DATA)
    first = finished(Packet(b"the first frame"))
    wire.offer([first, *segments_of(whole, 300)])
    assert nic.take(1)[0].data == first
    nic.post(4, 700)
    came = b"".join(frame.data[54:] for frame in nic.take(1))
    assert came == DATA
    wire.close()


def test_the_hash_is_the_connections(make_nic: Any, wire: Wire) -> None:
    features = JOINS | LARGE | feature_bits.mask(net.F_CTRL_VQ, net.F_HASH_REPORT)
    device, nic = make_nic(features, length=20, hash_report=True)
    command = bytes([4, 2]) + (0x3F).to_bytes(4, "little") + bytes(8) + bytes([40]) + bytes(range(40))
    assert device.control.execute(command, 1) == b"\0"
    frames = segments_of(Packet(DATA), 300)
    wire.send(frames[:1])
    wire.send(frames)
    single, joined = nic.take(2)
    assert joined.csum_start == 4
    assert joined.hash == single.hash
    assert joined.hash[1] == net.HASH_REPORT_TCPv4


packets = st.builds(
    Packet,
    st.sampled_from([b"", b"x", DATA[:99], DATA[:100], DATA[:100], DATA[:100], DATA[:101]]),
    six=st.booleans(),
    tags=st.sampled_from([0, 0, 1]),
    tcp_options=st.sampled_from([b"", b"", TIMESTAMPS]),
    flags=st.sampled_from([ACK, ACK, ACK, ACK | PSH, ACK | 1]),
)


@st.composite
def streams(draw: Any) -> list[bytes]:
    """Connections whose segments go on from each other, for a while."""
    frames: list[bytes] = []
    for packet in draw(st.lists(packets, min_size=1, max_size=4)):
        sequence, id = packet.sequence, packet.id
        for payload in draw(st.lists(st.sampled_from([DATA[:100], DATA[:100], DATA[:7], b""]), max_size=8)):
            segment = replace(packet, payload=payload, sequence=sequence % 2**32, id=id % 2**16)
            frames.append(finished(segment))
            if draw(st.integers(0, 9)) == 0:
                at = draw(st.integers(0, len(frames[-1]) - 1))
                frames[-1] = changed(frames[-1], at, draw(st.integers(0, 255)))
            sequence, id = sequence + len(payload), id + 1
    return frames


def test_cut_again_they_are_what_came(make_nic: Any, wire: Wire) -> None:
    _, nic = make_nic()

    @settings(max_examples=150)
    @given(streams())
    def check(frames: list[bytes]) -> None:
        wire.send(frames)
        cut: list[bytes] = []
        while len(cut) < len(frames):
            (frame,) = nic.take(1)
            cut += again(frame) if frame.gso_type else [frame.data]
            nic.post(1)
        assert cut == frames

    check()


def again(frame: Received) -> list[bytes]:
    """The segments that a joined frame is of."""
    assert frame.flags == JOINED
    options = TIMESTAMPS if frame.data[: frame.hdr_len].endswith(TIMESTAMPS) else b""
    pieces = finish(
        frame.data,
        flags=1,
        gso_type=frame.gso_type,
        gso_size=frame.gso_size,
        csum_start=frame.hdr_len - 20 - len(options),
        csum_offset=16,
    )
    assert len(pieces) == frame.csum_start > 1
    return pieces
