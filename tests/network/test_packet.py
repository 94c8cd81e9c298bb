"""Packets in plain Python."""

from __future__ import annotations

import pytest
from packets import Packet

from virtio.network.packet import tcp_start

HOP_BY_HOP = bytes.fromhex("0600 010400000000")


@pytest.mark.parametrize(
    "packet",
    [
        Packet(b"data"),
        Packet(b"", tags=2, options=bytes(8)),
        Packet(b"", six=True),
        Packet(b"", six=True, tags=1, options=HOP_BY_HOP),
    ],
)
def test_where_tcp_begins(packet: Packet) -> None:
    assert tcp_start(packet.frame()) == packet.transport_at
    assert tcp_start(memoryview(packet.frame())) == packet.transport_at


def test_frames_without_tcp() -> None:
    assert tcp_start(Packet(b"data", protocol=17).frame()) is None
    assert tcp_start(b"") is None
    assert tcp_start(bytes(100)) is None
    whole = Packet(b"", six=True, tags=2, options=HOP_BY_HOP).frame()
    assert [tcp_start(whole[:length]) for length in range(len(whole))] == [None] * len(whole)
    assert tcp_start(whole) == 70
    assert tcp_start(b"\x81\x00" * 50) is None
