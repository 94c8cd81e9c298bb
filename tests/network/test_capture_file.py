"""The pcapng format, and the reader of captures."""

from __future__ import annotations

import contextlib
import io
import random
import struct

import pytest

from virtio.errors import CaptureFileError, catalogue
from virtio.network import pcapng
from virtio.network.capture_file import Interface, Packet, Record, Statistics, read

TIME = 1_700_000_000_123_456_789


def records(data: bytes) -> list[Record]:
    return list(read(io.BytesIO(data), "file"))


def packets(data: bytes) -> list[Packet]:
    return [record for record in records(data) if isinstance(record, Packet)]


def pcap(order: str, nano: bool, frames: list[tuple[int, int, bytes, int]]) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    return head + b"".join(struct.pack(order + "4I", s, f, len(d), n) + d for s, f, d, n in frames)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def described(order: str, link_type: int = 1, options: bytes = b"", snaplen: int = 0) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snaplen) + options)


def enhanced(order: str, interface: int, stamp: int, data: bytes) -> bytes:
    head = struct.pack(order + "5I", interface, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
    return block(order, 6, head + data)


def whole_file() -> bytes:
    return (
        pcapng.section_header("test")
        + pcapng.interface("nic", 128, "a description")
        + pcapng.packet(
            b"frame one", TIME, direction=pcapng.Direction.OUT, queue=3, comments=["a note", "another"]
        )
        + pcapng.packet(b"frame", TIME + 1, direction=pcapng.Direction.IN, original=1500)
        + pcapng.statistics(TIME + 2, 10, 4)
    )


def test_what_is_written_is_read_back() -> None:
    nic, first, second, counted = records(whole_file())
    assert isinstance(nic, Interface)
    assert (nic.name, nic.snaplen, nic.link_type, nic.ticks) == ("nic", 128, 1, 10**9)
    assert isinstance(first, Packet)
    assert (first.data, first.time, first.original, first.queue) == (b"frame one", TIME, 9, 3)
    assert (first.direction, first.comments) == (pcapng.Direction.OUT, ("a note", "another"))
    assert isinstance(second, Packet)
    assert (second.data, second.original, second.direction) == (b"frame", 1500, pcapng.Direction.IN)
    assert counted == Statistics(nic, 10, 4)


def test_offsets_are_where_the_frames_are() -> None:
    data = whole_file() + section(">") + described(">") + enhanced(">", 0, 5, b"third")
    for packet in packets(data):
        assert data[packet.offset : packet.offset + len(packet.data)] == packet.data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_of_both_orders_and_resolutions(order: str, nano: bool) -> None:
    found = packets(pcap(order, nano, [(10, 5, b"abc", 3), (11, 0, b"defg", 99)]))
    assert [(p.time, p.data, p.original) for p in found] == [
        (10 * 10**9 + (5 if nano else 5000), b"abc", 3),
        (11 * 10**9, b"defg", 99),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_stamps_by_each_interfaces_resolution(order: str) -> None:
    half = struct.pack(order + "HHB3x", 9, 1, 0x80 | 4)  # 1/16 s
    late = struct.pack(order + "HHq", 14, 8, 100)
    data = section(order) + described(order) + described(order, options=half) + described(order, options=late)
    data += enhanced(order, 0, 1, b"a") + enhanced(order, 1, 8, b"b") + enhanced(order, 2, 1, b"c")
    assert [p.time for p in packets(data)] == [1000, 500_000_000, 100 * 10**9 + 1000]


def test_sections_of_different_orders() -> None:
    data = b"".join(section(order) + described(order) + enhanced(order, 0, 1, b"x") for order in "<><")
    assert len(packets(data)) == 3


def test_simple_and_old_packets_and_unknown_blocks() -> None:
    data = section("<") + described("<", snaplen=4) + block("<", 3, struct.pack("<I", 9) + b"four")
    data += block("<", 2, struct.pack("<HHIIII", 0, 0, 0, 7, 3, 3) + b"old") + block("<", 0x0BAD, b"private.")
    assert [(p.data, p.original, p.time) for p in packets(data)] == [(b"four", 9, 0), (b"old", 3, 7000)]


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"", 0),
        (b"GIF89a", 0),
        (section("<")[:20], 12),
        (section("<")[:8] + bytes(20), 8),
        (b"\n\r\r\n" + struct.pack("<I", 27) + section("<")[8:], 4),
        (section("<")[:12] + b"\x09" + section("<")[13:], 12),
        (section("<")[:-4] + bytes(4), 24),
        (section("<") + struct.pack("<II", 6, 13), 32),
        (section("<") + struct.pack("<II", 6, 0x7FFFFFF0), 32),
        (section("<") + enhanced("<", 0, 0, b"x"), 36),
        (section("<") + described("<") + block("<", 6, bytes(8)), 48),
        (section("<") + described("<") + block("<", 6, struct.pack("<5I", 0, 0, 0, 99, 99)), 56),
        (section("<") + described("<", options=struct.pack("<HH", 2, 50)), 44),
        (pcap("<", True, [(1, 2, b"whole", 5)])[:-1], 40),
        (pcap("<", True, [(1, 2, b"whole", 5)])[:30], 25),
        (pcap("<", True, []) + struct.pack("<4I", 1, 2, 1 << 30, 5), 32),
    ],
)
def test_damage_is_named_with_its_offset(data: bytes, offset: int) -> None:
    with pytest.raises(CaptureFileError, match=rf"^file is damaged at byte {offset}: ") as caught:
        records(data)
    assert catalogue()["E-NET-CAPTURE"] is type(caught.value)


def test_any_damage_is_an_error_or_none() -> None:
    chance = random.Random(4)
    good = whole_file() + section(">") + described(">") + enhanced(">", 0, 5, b"third")
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        with contextlib.suppress(CaptureFileError):
            records(bytes(data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data))
