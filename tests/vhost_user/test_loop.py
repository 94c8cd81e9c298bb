"""The control thread's loop."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from virtio.vhost_user.loop import ControlLoop

pytestmark = pytest.mark.usefixtures("no_fd_leaks")


@pytest.fixture
def loop() -> Iterator[ControlLoop]:
    made = ControlLoop()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_readable_and_writable(loop: ControlLoop, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    seen: list[str] = []
    loop.on_readable(reader, lambda: seen.append(os.read(reader, 1).decode()))
    loop.run_once(0)
    assert seen == []
    os.write(writer, b"r")
    loop.run_once(5)
    loop.on_writable(writer, lambda: seen.append("w"))
    loop.run_once(5)
    assert seen == ["r", "w"]
    loop.on_writable(writer, None)
    loop.forget(reader)
    loop.forget(reader)
    os.write(writer, b"r")
    loop.run_once(0)
    assert seen == ["r", "w"]


def test_a_callback_may_forget_another(loop: ControlLoop) -> None:
    """Both are ready in the same round; the second is not called once it is forgotten."""
    pipes = [os.pipe(), os.pipe()]
    seen: list[int] = []

    def first_come(mine: int, other: int) -> None:
        seen.append(mine)
        loop.forget(other)

    readers = [reader for reader, _ in pipes]
    loop.on_readable(readers[0], lambda: first_come(*readers))
    loop.on_readable(readers[1], lambda: first_come(*reversed(readers)))
    for _, writer in pipes:
        os.write(writer, b"x")
    loop.run_once(5)
    assert len(seen) == 1
    for pair in pipes:
        loop.forget(pair[0])
        os.close(pair[0])
        os.close(pair[1])


def test_calls_from_another_thread_wake_it(loop: ControlLoop) -> None:
    seen: list[int] = []
    thread = threading.Timer(0.05, lambda: loop.call(lambda: seen.append(1)))
    thread.start()
    started = time.monotonic()
    while not seen:
        loop.run_once(5)
    assert time.monotonic() - started < 4
    thread.join()


def test_a_call_from_a_callback_runs_in_the_next_round(loop: ControlLoop) -> None:
    seen: list[int] = []
    loop.call(lambda: loop.call(lambda: seen.append(1)))
    loop.run_once(0)
    assert seen == []
    loop.run_once(5)
    assert seen == [1]


def test_delays(loop: ControlLoop) -> None:
    seen: list[str] = []
    loop.call_later(0.04, lambda: seen.append("late"))
    loop.call_later(0.01, lambda: seen.append("early"))
    while len(seen) < 2:
        loop.run_once()
    assert seen == ["early", "late"]


def test_calls_after_the_end_are_harmless() -> None:
    loop = ControlLoop()
    loop.close()
    loop.close()
    loop.call(lambda: None)
