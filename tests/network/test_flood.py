"""The link that floods its guest."""

from __future__ import annotations

import threading

import pytest

from virtio.errors import NetworkUrlError, UsageError
from virtio.network import FloodLink, NullLink, Sink, open_link
from virtio.network.flood import datagram


def test_it_floods_while_a_guest_is_connected() -> None:
    link = open_link("flood:?size=100&burst=8")
    assert link.name == "flood:?size=100&burst=8"
    guest = NullLink()  # a sink that counts
    link.connect(guest)
    while guest.stats()["frames"] < 1000:
        pass
    link.disconnect()
    stats = guest.stats()
    assert stats["frames"] == link.stats()["flooded"]
    assert stats["bytes"] == 100 * stats["frames"]
    assert guest.stats() == stats
    assert not [thread for thread in threading.enumerate() if thread.name == "virtio-flood"]
    link.connect(Sink())
    link.close()


def test_it_connects_to_one_guest() -> None:
    link = FloodLink()
    link.connect(NullLink())
    with pytest.raises(UsageError):
        link.connect(NullLink())
    link.close()


def test_its_frames_are_udp_datagrams() -> None:
    frame = datagram(128)
    assert len(frame) == 128
    assert frame[12:14] == b"\x08\x00"
    words = [int.from_bytes(frame[at : at + 2], "big") for at in range(14, 34, 2)]
    assert sum(words) % 0xFFFF == 0
    assert int.from_bytes(frame[16:18], "big") == 114
    assert int.from_bytes(frame[38:40], "big") == 94


@pytest.mark.parametrize("options", ["size=41", "size=65551", "burst=0", "burst=65", "size=many", "speed=1"])
def test_what_cannot_be_is_refused(options: str) -> None:
    with pytest.raises(NetworkUrlError):
        open_link(f"flood:?{options}")
