"""Talks to the guest's init: sends commands over a serial line, takes their output apart from their end.

Requests and standard output share the first line, standard error has the second. On both, what a command
wrote is followed by a mark, a word chosen at random for that command, and the exit status; so output may be
anything, and arrives as it is written.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from virtio.errors import GuestError, GuestTimeoutError, UsageError
from virtio.vm.process import Process

__all__ = ["Agent", "MarkedStream", "Result", "Sink"]

Sink = Callable[[bytes], object]
"""Takes output as it arrives."""

CHUNK = 1 << 16
END_OF_TRANSMISSION = b"\x04"
COMMAND_LIMIT = 64 << 10
PIECE = 2 << 10
"""A terminal holds 4 KiB that nobody has read yet; User-Mode Linux's does not recover from more."""


@dataclass(frozen=True)
class Result:
    """How a command ended, and all that it wrote."""

    command: str
    status: int
    output: bytes = b""
    errors: bytes = b""

    @property
    def stdout(self) -> str:
        """Its standard output as text."""
        return self.output.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """Its standard error as text."""
        return self.errors.decode(errors="replace")

    def check(self) -> Result:
        """Itself; GuestError when the status is not 0."""
        if self.status != 0:
            detail = (self.stderr or self.stdout).strip()
            raise GuestError(f"in the guest, {self.command!r} gave status {self.status}: {detail}", fix="")
        return self


class MarkedStream:
    """Splits bytes as they come into what was written before the mark, and the status after it."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._held = b""
        self._marked = False
        self.status: int | None = None
        """What followed the mark; None until that has come."""

    def feed(self, data: bytes) -> bytes:
        """Take ``data``; return what is certain to be output."""
        self._held += data
        output = b""
        if not self._marked:
            output, found, rest = self._held.partition(self._mark)
            self._marked = bool(found)
            kept = 0 if found else self._mark_begun(output)
            self._held = rest if found else output[len(output) - kept :]
            output = output[: len(output) - kept]
        if self._marked and b"\n" in self._held:
            self.status = int(self._held.partition(b"\n")[0])
        return output

    def _mark_begun(self, data: bytes) -> int:
        """How many bytes at the end of ``data`` may be the beginning of the mark."""
        longest = min(len(self._mark) - 1, len(data))
        return next((n for n in range(longest, 0, -1) if data.endswith(self._mark[:n])), 0)


class Agent:
    """The host's end of the two serial lines of the guest that ``process`` runs."""

    def __init__(self, process: Process, lines: tuple[socket.socket, socket.socket]) -> None:
        self._process = process
        self._lines = lines
        self.token = secrets.token_hex(16)
        """The mark that ends the boot, for the kernel's command line."""
        for line in lines:
            line.setblocking(False)

    def wait_ready(self, timeout: float | None) -> None:
        """Wait until the guest takes commands."""
        self._collect(self.token, (_ignore, _ignore), timeout, "the guest did not come up")

    def run(self, command: str, sinks: tuple[Sink, Sink], timeout: float | None) -> int:
        """Run the shell command, feeding its output to ``sinks``; its exit status."""
        script = command.encode()
        if len(script) > COMMAND_LIMIT:
            raise UsageError(f"a command of {len(script)} bytes is too long", fix="give it as a file")
        late = f"{command if len(command) < 200 else command[:200] + '...'!r} did not end"
        while len(script) > PIECE:
            self._request("append", script[:PIECE], (_ignore, _ignore), timeout, late)
            script = script[PIECE:]
        return self._request("run", script, sinks, timeout, late)

    def shell(self, size: tuple[int, int], keyboard: int, sink: Sink) -> int:
        """Run a shell on a terminal of ``size`` (rows, columns), with ``keyboard`` (an fd); its status."""
        mark = secrets.token_hex(16)
        self.send(f"shell {mark} {size[0]} {size[1]}\n".encode())
        return self._collect(mark, (sink, sink), None, "", keyboard)

    def _request(
        self, verb: str, data: bytes, sinks: tuple[Sink, Sink], timeout: float | None, late: str
    ) -> int:
        mark = secrets.token_hex(16)
        self.send(f"{verb} {mark} {len(data)}\n".encode() + data)
        return self._collect(mark, sinks, timeout, late)

    def send(self, data: bytes) -> None:
        """Send ``data`` on the first line; GuestError when the guest has gone."""
        try:
            self._lines[0].setblocking(True)
            self._lines[0].sendall(data)
        except OSError:
            raise self._ended() from None
        finally:
            self._lines[0].setblocking(False)

    def close(self) -> None:
        """Close both lines."""
        for line in self._lines:
            line.close()

    def _collect(
        self, mark: str, sinks: tuple[Sink, Sink], timeout: float | None, late: str, keyboard: int = -1
    ) -> int:
        """Feed both lines' output to ``sinks`` until each has shown the mark; the status after it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        streams = [MarkedStream(mark) for _ in self._lines]
        with selectors.DefaultSelector() as selector:
            for line, stream, sink in zip(self._lines, streams, sinks, strict=True):
                selector.register(line, selectors.EVENT_READ, partial(_receive, line, stream, sink))
            selector.register(self._process, selectors.EVENT_READ, lambda: False)
            if keyboard >= 0:
                selector.register(keyboard, selectors.EVENT_READ, partial(self._type, keyboard, selector))
            while any(stream.status is None for stream in streams):
                left = None if deadline is None else deadline - time.monotonic()
                ready = selector.select(left) if left is None or left > 0 else []
                if not ready:
                    raise GuestTimeoutError(f"{late} within {timeout:g} s")
                # Ask all of them: a guest's last words arrive with the news of its end.
                going_on = [key.data() for key, _ in ready]
                if not all(going_on):
                    raise self._ended()
        return streams[0].status or 0

    def _type(self, keyboard: int, selector: selectors.BaseSelector) -> bool:
        """Pass on what was typed; the end of it as the terminal's own end-of-file character."""
        typed = os.read(keyboard, CHUNK)
        if not typed:
            selector.unregister(keyboard)
        self.send(typed or END_OF_TRANSMISSION)
        return True

    def _ended(self) -> GuestError:
        with suppress(GuestTimeoutError):
            status = self._process.wait(1.0)
            how = f"with status {status}" if status >= 0 else f"killed by signal {-status}"
            return GuestError(f"the guest ended by itself, {how}")
        return GuestError("the guest closed its serial line")


def _receive(line: socket.socket, stream: MarkedStream, sink: Sink) -> bool:
    """Read what is there; False when the line is closed."""
    try:
        data = line.recv(CHUNK)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    if output := stream.feed(data):
        sink(output)
    return bool(data)


def _ignore(data: bytes) -> None:
    """Boot messages of the serial lines say nothing."""
