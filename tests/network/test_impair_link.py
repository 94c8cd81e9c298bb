"""Impairment around a link: both directions, switched while running, on real time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from virtio.errors import NetworkUrlError, UsageError
from virtio.network import IMPAIRMENTS, ImpairLink, Link, LoopLink, NullLink, Sink, open_link
from virtio.network.impair.settings import OPTIONS
from virtio.testing.wire import Wire, put_frames

FRAMES = [bytes([number]) * 60 for number in range(100)]


def wait_for(sink: Wire, count: int) -> list[bytes]:
    end = time.monotonic() + 20
    while len(sink.frames) < count:
        assert time.monotonic() < end, f"{len(sink.frames)} of {count}"
        time.sleep(0.001)
    return [seen.data for seen in sink.frames]


def impaired(url: str) -> ImpairLink:
    link = open_link(url)
    assert isinstance(link, ImpairLink)
    return link


def test_delayed_frames_come_back_whole_and_in_order() -> None:
    link = impaired("loop:?delay=2ms")
    guest = Wire()
    link.connect(guest)
    start = time.monotonic_ns()
    put_frames(link, FRAMES)
    assert wait_for(guest, 100) == FRAMES
    assert time.monotonic_ns() - start >= 4_000_000
    link.close()


@pytest.mark.parametrize(("url", "seen"), [("out", (0, 1)), ("in", (1, 0)), ("both", (1, 1))])
def test_directions(url: str, seen: tuple[int, int]) -> None:
    link = impaired(f"loop:?duplicate=100%&impair={url}")
    link.connect(Wire())
    put_frames(link, FRAMES[:1])
    stats = link.stats()
    assert (stats["impair_in_duplicated"] > 0, stats["impair_out_duplicated"] > 0) == tuple(map(bool, seen))
    link.close()


def test_it_is_switched_while_frames_flow() -> None:
    link = impaired("loop:?delay=0ms")
    guest = Wire()
    link.connect(guest)
    put_frames(link, FRAMES)
    assert len(guest.frames) == 100
    link.set("out", loss="100%")
    put_frames(link, FRAMES)
    assert len(guest.frames) == 100
    assert link.stats()["impair_out_lost"] == 100
    link.set(loss=None, delay="1ms")
    put_frames(link, FRAMES)
    assert wait_for(guest, 200)[100:] == FRAMES
    link.set(delay=None)
    put_frames(link, FRAMES)
    assert wait_for(guest, 300)[200:] == FRAMES
    link.close()


def test_a_change_that_makes_no_sense_changes_nothing() -> None:
    link = ImpairLink(NullLink())
    for options in ({"delay": "1ms", "loss": "7"}, {"reorder": "5%"}):
        with pytest.raises(NetworkUrlError):
            link.set(**options)
    with pytest.raises(UsageError, match="a direction is"):
        link.set("up", loss="1%")
    assert not link.inwards.settings.active
    assert not link.outwards.settings.active
    link.set("in", delay="1ms")
    with pytest.raises(NetworkUrlError):
        link.set(reorder="5%")  # not for the other direction, which has no delay
    assert link.inwards.settings.reorder == (0.0, 0.0)
    link.close()


def test_a_seed_is_for_both_directions_and_can_be_read() -> None:
    fates = []
    for link in (impaired("loop:?loss=30%&seed=7"), impaired("loop:?loss=30%&seed=7")):
        guest = Wire()
        link.connect(guest)
        put_frames(link, FRAMES)
        fates.append([seen.data for seen in guest.frames])
        assert link.seed == 7
        link.close()
    assert fates[0] == fates[1]
    assert 20 < len(fates[0]) < 80
    assert ImpairLink(NullLink()).seed != ImpairLink(NullLink()).seed


class Offloads(Link):
    accepts = 0x1803  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.guest_features = 0

    def set_guest_offloads(self, features: int) -> None:
        self.guest_features = features


@pytest.mark.parametrize(("segments", "mask"), [(True, 0x1803), (False, 3)])
def test_segmentation_can_be_had_before(segments: bool, mask: int) -> None:
    inner = Offloads()
    link = ImpairLink(inner, segments=segments)
    link.set_guest_offloads(0x1803)
    assert (link.accepts, inner.guest_features) == (mask, mask)


def test_after_a_disconnect_nothing_is_delivered() -> None:
    link = impaired("loop:?delay=1ms&jitter=1ms")
    for _ in range(50):
        guest = Wire()
        link.connect(guest)
        put_frames(link, FRAMES)
        wait_for(guest, 1)
        link.disconnect()
        seen = len(guest.frames)
        put_frames(link, FRAMES)
        assert len(guest.frames) == seen
    link.close()


def test_many_threads_lose_nothing() -> None:
    link = impaired("loop:?delay=100us&limit=1000000")
    guest = Wire()
    link.connect(guest, queues=4)

    def send(queue: int) -> None:
        for number in range(200):
            put_frames(link, [bytes([queue, number]) + bytes(58)] * 5, queue=queue)

    threads = [threading.Thread(target=send, args=(queue,)) for queue in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frames = wait_for(guest, 4000)
    for queue in range(4):
        own = [frame[1] for frame in frames if frame[0] == queue]
        assert own == sorted(own), "frames of one queue keep their order"
        assert len(own) == 1000
    stats = link.stats()
    assert stats["impair_in_passed"] == stats["impair_out_passed"] == 4000
    link.close()


def timer_switches() -> int:
    total = 0
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().startswith("virtio-impair"):
            text = (task / "status").read_text()
            total += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def test_an_idle_timer_sleeps() -> None:
    link = impaired("loop:?delay=1ms")
    guest = Wire()
    link.connect(guest)
    put_frames(link, FRAMES)
    wait_for(guest, 100)
    settled = -1
    for _ in range(200):  # it is on its way to sleep
        if settled == (settled := timer_switches()):
            break
        time.sleep(0.01)
    time.sleep(0.1)
    assert timer_switches() == settled
    link.close()


def test_closing_drops_what_is_held_and_ends_the_timers() -> None:
    link = impaired("loop:?delay=3600s")
    link.connect(Wire())
    put_frames(link, FRAMES)
    assert link.stats()["impair_out_held"] == 100
    link.disconnect()
    link.close()
    assert link.stats()["impair_out_held"] == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "virtio-impair"]


def test_each_impairment_is_an_option_of_urls() -> None:
    assert {*OPTIONS, "impair", "seed", "segments"} == set(IMPAIRMENTS)


def test_a_link_never_closed_is_freed() -> None:
    link = ImpairLink(LoopLink())
    link.connect(Sink())
    put_frames(link, FRAMES)
    del link
