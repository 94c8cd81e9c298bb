"""Software checksums and segmentation, against a plain-Python model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import CHECK_AT, Packet, checksum, parse

from virtio.errors import UsageError
from virtio.network.offload import finish, takes_of
from virtio.spec import net
from virtio.spec.features import mask

GSO = {(6, False): net.HDR_GSO_TCPV4, (6, True): net.HDR_GSO_TCPV6}
payloads = st.integers(1, 9000).map(lambda size: random.Random(size).randbytes(size))
options4 = st.integers(0, 10).map(lambda words: b"\x01" * 4 * words)
options6 = st.sampled_from([b"", bytes((6, 0)) + bytes(6), bytes((17, 1)) + bytes(14)])


@st.composite
def packets(draw: st.DrawFn, protocol: int) -> Packet:
    six = draw(st.booleans())
    options = draw(options6 if six else options4)
    if six and options:
        options = bytes((protocol,)) + options[1:]
    return Packet(
        draw(payloads),
        six=six,
        protocol=protocol,
        tags=draw(st.integers(0, 2)),
        options=options,
        tcp_options=b"\x01" * draw(st.sampled_from([0, 12, 40])) if protocol == 6 else b"",
        flags=draw(st.integers(0, 255)),
        sequence=draw(st.integers(0, 2**32 - 1)),
        id=draw(st.integers(0, 65535)),
    )


def unfinished(packet: Packet, gso_type: int = 0, gso_size: int = 0) -> list[bytes]:
    return finish(
        packet.frame(),
        flags=net.HDR_F_NEEDS_CSUM,
        gso_type=gso_type,
        gso_size=gso_size,
        csum_start=packet.transport_at,
        csum_offset=CHECK_AT[packet.protocol],
    )


@given(st.sampled_from([6, 17]).flatmap(packets))
def test_a_checksum_is_computed(packet: Packet) -> None:
    (frame,) = unfinished(packet)
    at = packet.transport_at + CHECK_AT[packet.protocol]
    before = packet.frame()
    assert frame[:at] + frame[at + 2 :] == before[:at] + before[at + 2 :]
    assert parse(frame, packet).payload == packet.payload


@given(packets(6), st.integers(1, 9001))
def test_tcp_segments_join_to_what_was_sent(packet: Packet, size: int) -> None:
    size = max(size, len(packet.payload) // 300 + 1)
    frames = unfinished(packet, GSO[6, packet.six], size)
    segments = [parse(frame, packet) for frame in frames]
    assert b"".join(segment.payload for segment in segments) == packet.payload
    assert [len(segment.payload) for segment in segments[:-1]] == [size] * (len(segments) - 1)
    whole = packet.frame()
    for index, segment in enumerate(segments):
        first, last = index == 0, index == len(segments) - 1
        assert segment.link == whole[: packet.network_at]
        expected = bytearray(whole[packet.transport_at : packet.headers])
        sequence = (packet.sequence + index * size) % 2**32
        expected[4:8] = sequence.to_bytes(4, "big")
        if not last:
            expected[13] &= ~0x09
        if not first:
            expected[13] &= ~0x80
        expected[16:18] = segment.transport[16:18]  # verified by parse
        assert segment.transport == bytes(expected)
        if not packet.six:
            assert int.from_bytes(segment.ip[4:6], "big") == (packet.id + index) % 2**16


@given(packets(17), st.integers(1, 9001))
def test_udp_datagrams_join_to_what_was_sent(packet: Packet, size: int) -> None:
    size = max(size, len(packet.payload) // 300 + 1)
    parts = [parse(frame, packet) for frame in unfinished(packet, net.HDR_GSO_UDP_L4, size)]
    assert b"".join(part.payload for part in parts) == packet.payload
    assert all(len(part.payload) == size for part in parts[:-1])
    if not packet.six:
        assert [int.from_bytes(part.ip[4:6], "big") for part in parts] == [
            (packet.id + index) % 2**16 for index in range(len(parts))
        ]


@given(packets(17), st.integers(8, 9001))
def test_ip_fragments_join_to_the_datagram(packet: Packet, size: int) -> None:
    size = max(size, len(packet.payload) // 300 + 8)
    frames = unfinished(packet, net.HDR_GSO_UDP, size)
    (whole,) = unfinished(packet)
    joined = b""
    identities = set()
    for index, frame in enumerate(frames):
        last = index == len(frames) - 1
        ip = frame[packet.network_at : packet.transport_at]
        if packet.six:
            assert int.from_bytes(ip[4:6], "big") == len(frame) - packet.network_at - 40
            assert 44 in (ip[6], ip[40] if len(ip) > 40 else 44)
            header = frame[packet.transport_at : packet.transport_at + 8]
            assert header[:2] == bytes((17, 0))
            offset, more = int.from_bytes(header[2:4], "big") & ~7, header[3] & 1
            identities.add(header[4:8])
            piece = frame[packet.transport_at + 8 :]
        else:
            assert checksum(ip) == 0
            assert int.from_bytes(ip[2:4], "big") == len(frame) - packet.network_at
            field = int.from_bytes(ip[6:8], "big")
            offset, more = (field & 0x1FFF) * 8, field >> 13 & 1
            identities.add(ip[4:6])
            piece = frame[packet.transport_at :]
        assert offset == len(joined)
        assert more == (not last)
        joined += piece
    assert len(identities) == 1
    assert joined == whole[packet.transport_at :]


def test_a_checksum_of_zero_is_written_as_ones() -> None:
    # Of UDP, zero means that there is none (RFC 768); the payload is chosen so that the sum is zero.
    packet = Packet(b"\0\0", protocol=17)
    (frame,) = unfinished(packet)
    at = packet.transport_at + 6
    packet.payload = frame[at : at + 2]
    (frame,) = unfinished(packet)
    assert frame[at : at + 2] == b"\xff\xff"


def test_nothing_to_do_changes_nothing() -> None:
    frame = Packet(b"x" * 99).frame()
    assert finish(frame) == [frame]


def test_padding_behind_a_packet_is_no_payload() -> None:
    packet = Packet(b"y" * 100)
    frames = finish(
        packet.frame() + bytes(30),
        flags=net.HDR_F_NEEDS_CSUM,
        gso_type=net.HDR_GSO_TCPV4,
        gso_size=60,
        csum_start=packet.transport_at,
        csum_offset=16,
    )
    assert b"".join(parse(frame, packet).payload for frame in frames) == packet.payload


def broken(at: int, value: int, packet: Packet | None = None) -> bytes:
    data = bytearray((packet or Packet(b"z" * 200)).frame())
    data[at] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("frame", "gso_type"),
    [
        pytest.param(broken(12, 0x09), net.HDR_GSO_TCPV4, id="no IP"),
        pytest.param(broken(14, 0x65), net.HDR_GSO_TCPV4, id="another version"),
        pytest.param(broken(14, 0x44), net.HDR_GSO_TCPV4, id="a short IP header"),
        pytest.param(broken(16, 0x10), net.HDR_GSO_TCPV4, id="an IP packet longer than the frame"),
        pytest.param(broken(20, 0x20), net.HDR_GSO_TCPV4, id="a fragment"),
        pytest.param(broken(23, 17), net.HDR_GSO_TCPV4, id="UDP as TCP"),
        pytest.param(broken(46, 0x40), net.HDR_GSO_TCPV4, id="a short TCP header"),
        pytest.param(broken(46, 0xF0)[:90], net.HDR_GSO_TCPV4, id="a TCP header beyond the frame"),
        pytest.param(Packet(b"z" * 200).frame(), net.HDR_GSO_TCPV6, id="IPv4 as IPv6"),
        pytest.param(Packet(b"z" * 200, six=True).frame(), net.HDR_GSO_TCPV4, id="IPv6 as IPv4"),
        pytest.param(Packet(b"z" * 200).frame()[:53], net.HDR_GSO_TCPV4, id="cut off"),
        pytest.param(Packet(b"").frame(), net.HDR_GSO_TCPV4, id="no payload"),
        pytest.param(Packet(b"z" * 200, tags=2).frame()[:12] + b"\x81\0\0\1" * 40, 1, id="tags on tags"),
        pytest.param(broken(20, 44, Packet(b"z" * 200, six=True)), net.HDR_GSO_TCPV6, id="an IPv6 fragment"),
        pytest.param(
            broken(20, 60, Packet(b"\xff" * 200, six=True)), net.HDR_GSO_TCPV6, id="options on and on"
        ),
        pytest.param(Packet(b"z" * 200).frame(), net.HDR_GSO_UDP_L4, id="TCP as UDP"),
    ],
)
def test_headers_that_do_not_fit_are_refused(frame: bytes, gso_type: int) -> None:
    with pytest.raises(UsageError):
        finish(frame, flags=1, gso_type=gso_type, gso_size=50, csum_start=34, csum_offset=6)


def test_a_checksum_elsewhere_than_the_transport_header_is_refused() -> None:
    frame = Packet(b"z" * 200).frame()
    with pytest.raises(UsageError):
        finish(frame, flags=1, gso_type=net.HDR_GSO_TCPV4, gso_size=50, csum_start=30, csum_offset=16)
    with pytest.raises(UsageError):
        finish(frame, flags=1, csum_start=len(frame) - 1)


@given(st.binary(min_size=14, max_size=200), st.sampled_from([1, 3, 4, 5, 0x81]), st.integers(1, 300))
def test_garbage_is_refused_or_cut(frame: bytes, gso_type: int, gso_size: int) -> None:
    kinds = [b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00"]
    for kind in kinds:
        frame = frame[:12] + kind + frame[12:]
        try:
            finish(frame, gso_type=gso_type, gso_size=gso_size)
        except UsageError:
            continue


def test_what_is_taken_follows_from_the_features() -> None:
    assert takes_of(0) == 0
    assert takes_of(mask(net.F_GUEST_CSUM, net.F_GUEST_TSO6)) == 1 | 4
    assert takes_of(mask(net.F_CSUM, net.F_HOST_USO), host=True) == 1 | 32 | 64
    assert takes_of(mask(net.F_CSUM)) == 0
