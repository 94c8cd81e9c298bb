from __future__ import annotations

import io

import pytest

from virtio.demo import Stage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_findings_and_their_further_lines() -> None:
    out = io.StringIO()
    stage = Stage(out, io.StringIO())
    stage.title(2, "An act")
    stage.finding("label", "first\nsecond")
    stage.finding("", "bad", mark="FAILED")
    assert unstyled(out).splitlines() == [
        "2. An act",
        "   label      ok  first",
        "                second",
        "              FAILED  bad",
    ]


def test_a_live_line_is_replaced_and_taken_away() -> None:
    live = Terminal()
    stage = Stage(io.StringIO(), live)
    stage.working("a", "beginning")
    stage.progress("a", 0.5, "half")
    stage.finding("a", "done")
    lines = live.getvalue().split("\r\x1b[K")
    assert "beginning ..." in lines[1]
    assert "━" * 12 in lines[2]
    assert "━" * 13 not in lines[2]
    assert lines[3] == ""


def test_a_live_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    live = Terminal()
    Stage(io.StringIO(), live).progress("label", 1, "x" * 100)
    assert len(live.getvalue().removeprefix("\r\x1b[K")) == 29


def test_plain_progress_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("virtio.demo.stage.time.monotonic", lambda: now)
    live = io.StringIO()
    stage = Stage(io.StringIO(), live)
    for step in range(25):
        now = 100 + step / 10
        stage.progress("load", step / 25, "going")
        stage.working("load", "is for terminals")
    assert live.getvalue().splitlines() == ["   load        40%  going", "   load        80%  going"]


def unstyled(stream: io.StringIO) -> str:
    import click

    return click.unstyle(stream.getvalue())
