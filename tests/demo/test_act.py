from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from virtio.demo.act import Act, Outcome, binary_size
from virtio.demo.stage import Stage
from virtio.errors import DeviceError, HostError, VirtioError


def perform(what: Callable[[Act, Stage], None]) -> tuple[Act, str]:
    out = io.StringIO()
    return Act("name", "Title").play(Stage(out, io.StringIO()), 1, what), out.getvalue()


def test_what_is_found_is_shown_and_kept() -> None:
    act, shown = perform(lambda act, stage: act.found(stage, "size", "10 bytes", bytes=10))
    assert (act.outcome, act.findings, act.figures) == ("ok", {"size": "10 bytes"}, {"bytes": 10})
    assert "10 bytes" in shown


@pytest.mark.parametrize(
    ("error", "outcome", "mark"),
    [
        (HostError("nothing there", fix="apt install it"), "missing", "skipped"),
        (DeviceError("other bytes"), "failed", "FAILED"),
    ],
)
def test_our_errors_end_the_act(error: VirtioError, outcome: Outcome, mark: str) -> None:
    def fail(act: Act, stage: Stage) -> None:
        raise error

    act, shown = perform(fail)
    assert act.outcome == outcome
    assert act.trouble.startswith(str(error))
    assert mark in shown
    assert (error.fix or "") in shown


def test_others_are_not_swallowed() -> None:
    def fail(act: Act, stage: Stage) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        perform(fail)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (512, "512 bytes"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert binary_size(size) == text
