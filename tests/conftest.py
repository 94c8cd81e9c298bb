"""How hard the property tests look (HYPOTHESIS_PROFILE=deep: for minutes, else seconds), and our programs."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", settings.get_profile("default"), max_examples=5000, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# A job that a script put into the background ignores ^C, and so would the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Service:
    """A ``virtio`` program that serves; what it says is collected while it runs."""

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "virtio.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.said = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said += line
                self._news.notify_all()

    def wait_said(self, text: str, timeout: float = 30) -> str:
        """Wait until it has said ``text``; all that it said so far."""
        with self._news:
            assert self._news.wait_for(lambda: text in self.said, timeout), f"no {text!r} in:\n{self.said}"
            return self.said

    def wait(self, timeout: float = 30) -> int:
        """Its exit status; all that it said is there then."""
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.wait()

    def close(self) -> None:
        self.process.kill()
        self.wait()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        assert "Traceback" not in self.said or "user.py" in self.said


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    """Starts ``virtio ARGUMENTS`` as a process; with ``said=`` waits for these words."""
    running: list[Service] = []

    def begin(*arguments: object, said: str = "", **options: Any) -> Service:
        running.append(Service([str(argument) for argument in arguments], **options))
        if said:
            running[-1].wait_said(said)
        return running[-1]

    yield begin
    for service in running:
        service.close()
