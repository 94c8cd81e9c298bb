"""Links whose world is a Python function."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from virtio.errors import NetworkError, NetworkUrlError, UsageError
from virtio.network import PythonLink, open_link, put_buffers
from virtio.testing.wire import Wire, put_frames

FRAME = bytes(range(60))


def wait_for(link: PythonLink, name: str, count: int) -> None:
    end = time.monotonic() + 20
    while link.stats()[name] < count:
        assert time.monotonic() < end, link.stats()
        time.sleep(0.001)


def connected(handler: Any, **options: Any) -> tuple[PythonLink, Wire]:
    link, guest = PythonLink(handler, **options), Wire()
    link.connect(guest)
    return link, guest


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda frame: frame[::-1], [FRAME[::-1]]),
        (lambda frame: bytearray(frame), [FRAME]),
        (lambda frame: memoryview(frame)[1:], [FRAME[1:]]),
        (lambda frame: [frame, frame[:20]], [FRAME, FRAME[:20]]),
        (lambda frame: (part for part in (frame,)), [FRAME]),
        (lambda frame: [], []),
        (lambda frame: None, []),
    ],
)
def test_what_the_handler_returns_goes_to_the_guest(answer: Any, expected: list[bytes]) -> None:
    done = threading.Event()

    def handle(frame: bytes, header: dict[str, int]) -> Any:
        if frame == b"end":
            done.set()
            return None
        assert type(frame) is bytes
        return answer(frame)

    link, guest = connected(handle)
    put_frames(link, [FRAME], cut=(7, 8))
    put_frames(link, [b"end"])
    assert done.wait(20)
    assert [seen.data for seen in guest.frames] == expected
    link.disconnect()
    link.close()
    assert link.stats()["frames"] == 2


def test_the_header_tells_what_is_still_to_be_computed() -> None:
    seen: list[dict[str, int]] = []
    link, _ = connected(lambda frame, header: seen.append(header), offloads=3)
    assert link.accepts == 3
    put_frames(link, [FRAME], header={"flags": 1, "csum_start": 34, "csum_offset": 6})
    link.close()
    assert seen == [
        {"flags": 1, "gso_type": 0, "hdr_len": 0, "gso_size": 0, "csum_start": 34, "csum_offset": 6}
    ]


def test_an_exception_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    def handle(frame: bytes, header: dict[str, int]) -> bytes:
        if frame[0] == 0:
            raise ZeroDivisionError("a mistake")
        return frame

    link, guest = connected(handle)
    with caplog.at_level(logging.ERROR):
        put_frames(link, [FRAME] * 5 + [b"\x01" * 60])
        wait_for(link, "answered", 1)
    assert link.stats()["exceptions"] == 5
    assert caplog.text.count("ZeroDivisionError: a mistake") == 1
    assert [seen.data for seen in guest.frames] == [b"\x01" * 60]
    link.close()


@pytest.mark.parametrize("answer", [5, "text", [b""], [bytes(70_000)], [None]])
def test_an_answer_that_is_no_frame_is_the_handlers_fault(answer: Any) -> None:
    link, guest = connected(lambda frame, header: answer)
    put_frames(link, [FRAME])
    wait_for(link, "exceptions", 1)
    assert guest.frames == []
    link.close()


def test_a_slow_handler_does_not_hold_the_nic_up() -> None:
    gate = threading.Event()
    link, _ = connected(lambda frame, header: gate.wait(20) and None, limit=10)
    assert put_frames(link, [FRAME] * 64) == 64
    assert 53 <= link.stats()["dropped"] <= 54
    gate.set()
    link.close()


def test_frames_can_be_sent_at_any_time() -> None:
    link, guest = PythonLink(), Wire(room=3)
    assert link.send([FRAME]) == 0
    link.connect(guest)
    assert link.send([FRAME, memoryview(FRAME)[:20]], header={"flags": 2}) == 2
    assert link.send(iter([FRAME] * 3)) == 1
    assert [len(seen.data) for seen in guest.frames] == [60, 20, 60]
    assert guest.frames[0].flags == 2
    assert link.stats() == {"frames": 0, "answered": 3, "dropped": 0, "no_room": 3, "exceptions": 0}
    put_frames(link, [FRAME])
    assert link.stats()["frames"] == 1
    link.disconnect()
    assert link.send([FRAME]) == 0
    link.close()


def test_what_is_no_frame() -> None:
    link, _ = connected(None)
    for frame in (b"", bytes(65551)):
        with pytest.raises(UsageError, match="a frame has 1 to 65550 bytes"):
            link.send([frame])
    with pytest.raises(TypeError):
        link.send([5])  # type: ignore[list-item]
    with pytest.raises(KeyError):
        link.send([FRAME], header={"colour": 1})


def test_many_buffers_until_there_is_no_room() -> None:
    sink = Wire(room=150)
    assert put_buffers(sink, (bytes([n % 256] * 60) for n in range(300))) == 150
    assert [seen.data[0] for seen in sink.frames] == list(range(150))
    assert put_buffers(sink, []) == 0


HANDLERS = """
def echo(frame, header):
    return frame

class Nested:
    @staticmethod
    def drop(frame, header):
        return None

number = 5
"""


def test_a_function_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frame_handlers_here.py").write_text(HANDLERS)
    (tmp_path / "frame_handlers_bad.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    link, guest = open_link("python:frame_handlers_here:echo"), Wire()
    assert link.name == "python:frame_handlers_here:echo"
    link.connect(guest)
    put_frames(link, [FRAME])
    assert isinstance(link, PythonLink)
    wait_for(link, "answered", 1)
    link.close()
    open_link("python:frame_handlers_here:Nested.drop").close()
    for text, message in [
        ("frame_handlers_here:number", "is not a function"),
        ("frame_handlers_here:missing", "AttributeError"),
        ("frame_handlers_nowhere:echo", "ModuleNotFoundError"),
        ("frame_handlers_bad:echo", "ZeroDivisionError"),
    ]:
        with pytest.raises(NetworkError, match=message):
            open_link(f"python:{text}")
    for text in ("", "module", ":name", "module:"):
        with pytest.raises(NetworkUrlError, match="write python:MODULE:FUNCTION"):
            open_link(f"python:{text}")


def test_filters_go_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frame_handlers_more.py").write_text(HANDLERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    link = open_link("python:frame_handlers_more:echo?loss=100%&impair=in")
    link.connect(Wire())
    put_frames(link, [FRAME])
    end = time.monotonic() + 20
    while link.stats()["impair_in_lost"] == 0:
        assert time.monotonic() < end
    link.disconnect()
    link.close()
