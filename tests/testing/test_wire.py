"""A wire in a test's hands, at both of its ends."""

from __future__ import annotations

import errno

import pytest

from virtio.network import NullLink, open_link
from virtio.spec import net
from virtio.testing.wire import HEADER_FIELDS, Wire, WireFrame, put_frames

FRAME = bytes(range(60))
HEADER = {"flags": 1, "gso_type": 1, "hdr_len": 54, "gso_size": 1448, "csum_start": 34, "csum_offset": 16}


def test_a_frame_has_a_header() -> None:
    frame = WireFrame(FRAME, 2, **HEADER)
    assert frame.header == HEADER
    assert tuple(frame.header) == HEADER_FIELDS
    assert WireFrame(FRAME).header == dict.fromkeys(HEADER_FIELDS, 0)


@pytest.mark.parametrize("cut", [None, (), (0, 14, 60, 90), 7, 60, 100])
def test_however_a_frame_lies_in_memory_it_is_the_same(cut: object) -> None:
    wire = Wire()
    frames = [FRAME, FRAME[:3], WireFrame(FRAME, flags=2), b""]
    assert put_frames(wire, frames, 1, HEADER, cut) == 4  # type: ignore[arg-type]
    assert wire.take() == [
        WireFrame(FRAME, 1, **HEADER),
        WireFrame(FRAME[:3], 1, **HEADER),
        WireFrame(FRAME, 1, flags=2),
        WireFrame(b"", 1, **HEADER),
    ]
    assert wire.frames == []


def test_a_field_that_no_header_has() -> None:
    with pytest.raises(TypeError, match="colour"):
        put_frames(Wire(), [FRAME], header={"colour": 1})


def test_room_is_for_the_frames_that_are_kept() -> None:
    wire = Wire(room=3)
    assert put_frames(wire, [FRAME] * 2, times=4) == 3
    assert put_frames(wire, [FRAME]) == 0
    assert len(wire.take(2)) == 2
    assert put_frames(wire, [FRAME] * 5) == 2
    wire.room = None
    assert put_frames(wire, [FRAME] * 100, times=3) == 300


def test_a_wire_stands_for_a_nic() -> None:
    wire = Wire(open_link("loop:"), 2)
    assert wire.link is not None
    assert wire.link.queues == 2
    assert wire.send([FRAME] * 70, queue=1) == 70
    assert wire.wait(70) == [WireFrame(FRAME, 1)] * 70
    assert wire.deliver() == -errno.EAGAIN
    with pytest.raises(TimeoutError, match="0 of 1 frames"):
        wire.wait(1, timeout=0.01)


def test_a_nic_connects_to_a_wire() -> None:
    wire, nic = Wire(offloads=1 << net.F_CSUM), Wire()
    assert (wire.accepts, wire.name) == (1, "a test's wire")
    assert wire.receive_fd(0) == -1
    assert wire.send([FRAME]) == 0
    wire.connect(nic)
    assert wire.send([FRAME, WireFrame(FRAME, 3, **HEADER)], queue=2) == 2
    assert nic.take() == [WireFrame(FRAME, 2), WireFrame(FRAME, 2, **HEADER)]
    wire.disconnect()
    wire.connect(NullLink())
    assert wire.send([FRAME], times=5) == 5


def test_what_is_offered_waits_until_it_is_fetched() -> None:
    wire = Wire(readable=True)
    nic = Wire(wire)
    assert nic.deliver() == -errno.EAGAIN
    wire.offer([FRAME] * 100)
    nic.room = 70
    assert (nic.deliver(), nic.deliver(budget=64), nic.deliver()) == (64, 6, -errno.ENOSPC)
    assert wire.left == 30
    nic.room = None
    assert nic.wait(100) == [WireFrame(FRAME)] * 100
    wire.disconnect()
    wire.offer([FRAME])
    assert nic.deliver() == -errno.EAGAIN
    assert wire.left == 1
    wire.close()
    wire.close()
    assert wire.receive_fd(0) == -1


def test_a_nic_still_looks_at_a_wire_that_was_closed() -> None:
    wire = Wire(readable=True)
    nic = Wire(wire)
    wire.close()
    assert nic.deliver() == -errno.EAGAIN
