"""Captures replayed into a guest."""

from __future__ import annotations

import itertools
import logging
from array import array
from pathlib import Path

import pytest

from virtio.errors import CaptureFileError, NetworkError, NetworkUrlError
from virtio.network import ReplayLink, open_link, pcapng
from virtio.network.replay import Schedule, index_capture
from virtio.testing.wire import Wire, put_frames

IN, OUT = pcapng.Direction.IN, pcapng.Direction.OUT
MS = 10**6


def write(path: Path, *packets: bytes) -> Path:
    path.write_bytes(pcapng.section_header("test") + pcapng.interface("nic") + b"".join(packets))
    return path


def frame(number: int, size: int = 60) -> bytes:
    return number.to_bytes(4, "big").rjust(size, b"\x02")


def many(path: Path, count: int) -> Path:
    return write(path, *(pcapng.packet(frame(i), 10**18 + i * MS) for i in range(count)))


class Clock:
    """Time that passes only by being waited for."""

    def __init__(self, link: ReplayLink) -> None:
        self.now = 5 * 10**9
        link.clock = lambda: self.now

    def run(self, link: ReplayLink, guest: Wire, steps: int = 1000) -> list[tuple[int, int]]:
        """What comes: milliseconds since the start, and the frame's number."""
        start = self.now
        seen: list[tuple[int, int]] = []
        for _ in range(steps):
            if link.schedule.finished:
                break
            pause = link.step(guest)
            seen += [
                ((self.now - start) // MS, int.from_bytes(came.data[-4:], "big")) for came in guest.frames
            ]
            guest.take()
            self.now += pause
        return seen


def replay(path: Path, **options: object) -> list[tuple[int, int]]:
    link = ReplayLink(str(path), **options)  # type: ignore[arg-type]
    clock = Clock(link)
    seen = clock.run(link, Wire())
    link.close()
    return seen


def test_original_timing(tmp_path: Path) -> None:
    times = [0, 3, 3, 20, 1000]
    path = write(tmp_path / "a", *(pcapng.packet(frame(i), 10**18 + t * MS) for i, t in enumerate(times)))
    assert replay(path) == [(0, 0), (3, 1), (3, 2), (20, 3), (1000, 4)]


def test_speed(tmp_path: Path) -> None:
    path = many(tmp_path / "a", 3)
    assert replay(path, speed=0.5) == [(0, 0), (2, 1), (4, 2)]
    assert replay(path, speed=None) == [(0, 0), (0, 1), (0, 2)]


def test_loops_begin_at_once_again(tmp_path: Path) -> None:
    assert replay(many(tmp_path / "a", 3), loops=2) == [(0, 0), (1, 1), (2, 2), (2, 0), (3, 1), (4, 2)]


def test_a_loop_without_end(tmp_path: Path) -> None:
    link = ReplayLink(str(many(tmp_path / "a", 2)), speed=None, loops=0)
    seen = Clock(link).run(link, Wire(), steps=50)
    assert [number for _, number in seen] == [0, 1] * 50
    link.close()


def test_rounds_of_no_length_do_not_flood(tmp_path: Path) -> None:
    assert replay(many(tmp_path / "a", 1), loops=4) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_stamps_that_run_backwards_keep_the_files_order(tmp_path: Path) -> None:
    times = [5, 2, 9]
    path = write(tmp_path / "a", *(pcapng.packet(frame(i), 10**18 + t * MS) for i, t in enumerate(times)))
    assert replay(path) == [(0, 0), (0, 1), (4, 2)]


def test_a_guest_that_is_not_there_yet_misses_nothing(tmp_path: Path) -> None:
    link = ReplayLink(str(many(tmp_path / "a", 3)))
    clock = Clock(link)
    nobody = Wire(room=0)
    for _ in range(5):
        clock.now += link.step(nobody)
    assert link.stats()["dropped"] == 0
    assert clock.run(link, Wire()) == [(0, 0), (1, 1), (2, 2)]
    link.close()


def test_a_guest_that_is_too_slow_misses_frames_like_on_a_wire(tmp_path: Path) -> None:
    link = ReplayLink(str(many(tmp_path / "a", 10)))
    guest = Wire(room=4)
    clock = Clock(link)
    while not link.schedule.finished:
        clock.now += link.step(guest)
    assert len(guest.frames) == 4
    assert link.stats() == {"frames": 4, "bytes": 240, "dropped": 6, "skipped": 0, "cut": 0}
    link.close()


def test_at_full_speed_it_waits_for_the_guest(tmp_path: Path) -> None:
    link = ReplayLink(str(many(tmp_path / "a", 300)), speed=None)
    seen: list[bytes] = []
    guest = Wire(room=7)
    while not link.schedule.finished:
        link.step(guest)
        seen += [came.data for came in guest.frames]
        guest.take()
    assert seen == [frame(i) for i in range(300)]
    assert link.stats()["dropped"] == 0
    link.close()


def test_directions(tmp_path: Path) -> None:
    kinds = [IN, OUT, pcapng.Direction.UNKNOWN, OUT]
    path = write(
        tmp_path / "a", *(pcapng.packet(frame(i), i, direction=kind) for i, kind in enumerate(kinds))
    )
    numbers = {name: [n for _, n in replay(path, direction=name)] for name in ("all", "in", "out")}
    assert numbers == {"all": [0, 1, 2, 3], "in": [0, 2], "out": [1, 2, 3]}


def test_what_no_guest_can_take_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a"
    wifi = pcapng.block(1, b"\x69\0\0\0" + bytes(4))
    path.write_bytes(
        pcapng.section_header("test")
        + pcapng.interface("nic")
        + wifi
        + pcapng.packet(frame(0), 0)
        + pcapng.packet(frame(1), 1, interface=1)
        + pcapng.packet(b"short", 2)
        + pcapng.packet(bytes(70_000), 3)
        + pcapng.packet(frame(4), 4, original=1500)
    )
    index = index_capture(str(path))
    assert (len(index.offsets), index.skipped, index.cut) == (2, 3, 1)


def test_frames_far_apart_in_the_file_are_read_one_by_one(tmp_path: Path) -> None:
    filler = [pcapng.packet(bytes(60_000), 1, direction=OUT)] * 30
    path = write(tmp_path / "a", pcapng.packet(frame(0), 0), *filler, pcapng.packet(frame(1), 2))
    link = ReplayLink(str(path), direction="in", speed=None)
    assert link.near(range(2)) == range(1)
    assert [number for _, number in Clock(link).run(link, Wire())] == [0, 1]
    link.close()


def test_damage_is_refused_or_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = many(tmp_path / "a", 5)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CaptureFileError, match=r"damaged at byte \d+"):
        open_link(f"pcap:{path}")
    with caplog.at_level(logging.WARNING):
        link = open_link(f"pcap:{path}?damaged=replay")
    assert "what comes before is replayed" in caplog.text
    assert isinstance(link, ReplayLink)
    assert len(link.index.offsets) == 4
    link.close()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CaptureFileError):
        open_link(f"pcap:{path}?damaged=replay")


def test_a_file_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(CaptureFileError, match="it holds no such frame"):
        open_link(f"pcap:{write(tmp_path / 'a')}")
    wifi = pcapng.block(1, b"\x69\0\0\0" + bytes(4)) + pcapng.packet(frame(0), 0)
    (tmp_path / "b").write_bytes(pcapng.section_header("test") + wifi)
    with pytest.raises(CaptureFileError, match="link types 105, not Ethernet"):
        open_link(f"pcap:{tmp_path}/b")
    with pytest.raises(NetworkError, match="No such file"):
        open_link(f"pcap:{tmp_path}/missing")
    with pytest.raises(NetworkError, match="Is a directory"):
        open_link(f"pcap:{tmp_path}")


def test_a_file_cut_while_it_is_replayed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = many(tmp_path / "a", 200)
    link = ReplayLink(str(path), speed=None)
    with path.open("r+b") as stream:
        stream.truncate(500)
    link.connect(Wire())
    assert link.finished.wait(20)
    assert "was cut at byte 500" in str(link.error)
    assert "replay of" in caplog.text
    link.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("speed=fast", "speed is a factor"),
        ("speed=0", "speed is a factor"),
        ("speed=nan", "speed is a factor"),
        ("loop=0", "loop is a number of rounds"),
        ("loop=x", "loop is a number of rounds"),
        ("direction=up", "direction is all or in or out"),
        ("damaged=ok", "damaged is refuse or replay"),
        ("colour=red", "unknown option 'colour'"),
    ],
)
def test_values_that_make_no_sense(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(NetworkUrlError, match=message):
        open_link(f"pcap:{many(tmp_path / 'a', 1)}?{options}")
    with pytest.raises(NetworkUrlError, match="write pcap:FILE"):
        open_link("pcap:")


def test_options_of_a_url(tmp_path: Path) -> None:
    path = many(tmp_path / "a", 1)
    for options, speed, loops in [
        ("", 1.0, 1),
        ("?max", None, 1),
        ("?speed=max&loop=3", None, 3),
        ("?loop", 1, 0),
    ]:
        link = open_link(f"pcap:{path}{options}")
        assert isinstance(link, ReplayLink)
        assert (link.speed, link.schedule.loops, link.name) == (speed, loops, f"pcap:{path}")
        link.close()


def test_a_guest_gets_it_all_and_may_pause(tmp_path: Path) -> None:
    link = open_link(f"pcap:{many(tmp_path / 'a', 500)}?max")
    assert isinstance(link, ReplayLink)
    link.connect(first := Wire(room=100))
    while len(first.frames) < 100:
        pass
    put_frames(link, [frame(1)])
    link.disconnect()
    link.connect(second := Wire())
    assert link.finished.wait(20)
    assert [seen.data for seen in first.frames + second.frames] == [frame(i) for i in range(500)]
    link.disconnect()
    link.close()


def test_a_capture_replays_what_it_recorded(tmp_path: Path) -> None:
    source = open_link(f"loop:?pcap={tmp_path}/a")
    source.connect(Wire())
    put_frames(source, [frame(i) for i in range(100)])
    source.disconnect()
    source.close()
    link = open_link(f"pcap:{tmp_path}/a?max&direction=in")
    assert isinstance(link, ReplayLink)
    link.connect(guest := Wire())
    assert link.finished.wait(20)
    assert [seen.data for seen in guest.frames] == [frame(i) for i in range(100)]
    link.close()


def test_the_schedule_is_the_models() -> None:
    times = array("q", itertools.accumulate([0, *([3, 0, 11] * 40)]))
    schedule = Schedule(times, speed=2.0, loops=2)
    now, sent = 1000, []
    while not schedule.finished:
        due = schedule.due(now, 7)
        assert len(due) <= 7
        sent += [(now, n) for n in due]
        schedule.sent(len(due), now)
        now += max(1, schedule.wait(now))
    for turn in range(2):
        chunk = sent[turn * len(times) : (turn + 1) * len(times)]
        start = chunk[0][0]
        for time, number in chunk:
            assert number == chunk.index((time, number))
            assert time - start >= times[number] / 2 - 0.5
