"""DPDK's `testpmd`: a network device (net_vhost) or a driver (net_virtio_user) that takes commands."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence

VARIABLE = "VIRTIO_TESTPMD"
PROGRAM = "dpdk-testpmd"
# No hugepages, no devices of the machine's, nothing left behind.
EAL = ("--no-huge", "-m", "512", "--no-pci", "--no-telemetry")
MBUFS = 16384
PATIENCE = 20.0  # seconds for an answer
PROMPT = "testpmd> "
RATE = re.compile(r"([RT])x-pps:\s+(\d+)")
COUNT = re.compile(r"([RT])X-packets:\s+(\d+)")


def command_line(text: str | None = None) -> list[str] | None:
    """How to start it: ``text``, what ``VIRTIO_TESTPMD`` says, or the one installed; None without any."""
    if text := text or os.environ.get(VARIABLE):
        return shlex.split(text)
    found = shutil.which(PROGRAM)
    return [found] if found else None


def version(text: str | None = None) -> str | None:
    """Which DPDK it is of."""
    program = command_line(text)
    if program is None:
        return None
    says_so_at_start = [*EAL, f"--file-prefix=virtio-{os.getpid()}", "-v", "--", "--help"]
    found = subprocess.run([*program, *says_so_at_start], capture_output=True, text=True, check=False)
    said = re.search(r"DPDK \d[\w.]*", found.stdout + found.stderr)
    return said[0] if said else "of an unknown version"


class Testpmd:
    """A running testpmd; RuntimeError with what it printed if it ends or does not answer.

    ``vdevs`` are its ports. It forwards on ``core`` and takes commands on ``main_core``.
    """

    started = 0

    def __init__(
        self,
        program: Sequence[str],
        vdevs: Sequence[str],
        *,
        mode: str = "io",
        core: int = 0,
        main_core: int = 1,
        queues: int = 1,
        size: int = 64,
        descriptors: int = 1024,
        paired: bool = False,
    ) -> None:
        Testpmd.started += 1
        command = [
            *program, *EAL, "-l", ",".join(str(each) for each in sorted({core, main_core})),
            "--main-lcore", str(main_core), f"--file-prefix=virtio-{os.getpid()}-{Testpmd.started}",
            *(f"--vdev={vdev}" for vdev in vdevs), "--", "-i", f"--forward-mode={mode}",
            f"--txpkts={size}", f"--port-topology={'paired' if paired else 'loop'}",
            f"--rxq={queues}", f"--txq={queues}", f"--rxd={descriptors}", f"--txd={descriptors}",
            "--no-flush-rx", f"--total-num-mbufs={MBUFS}",
        ]  # fmt: skip
        ours, theirs = pty.openpty()  # into a pipe it would write what it has to say only at its end
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._talk = ours
        self._text = ""
        self._ended = False
        self._more = threading.Condition()
        # All it says is read at once: a terminal that nobody reads fills up with its ports' events, and
        # stops it.
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        try:
            self._wait_for(PROMPT)
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        more = b"-"
        while more:
            try:
                more = os.read(self._talk, 4096)
            except OSError:  # what a terminal says when the other end is gone
                more = b""
            with self._more:
                self._text += more.decode(errors="replace").replace("\r", "")
                self._ended = not more
                self._more.notify()

    def _wait_for(self, end: str) -> str:
        with self._more:
            if not self._more.wait_for(lambda: end in self._text or self._ended, PATIENCE):
                raise RuntimeError(f"{PROGRAM} does not answer:\n{self._text}")
            if end not in self._text:
                raise RuntimeError(f"{PROGRAM} ended:\n{self._text}")
            text, _, self._text = self._text.partition(end)
            return text

    def do(self, command: str) -> str:
        """Carry out one command, and return what it printed."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        return self._wait_for(PROMPT)

    def rates(self, seconds: float, port: int = 0) -> tuple[int, int]:
        """Frames a second during so long: received, sent."""
        self.do(f"show port stats {port}")
        time.sleep(seconds)
        return _pair(RATE, self.do(f"show port stats {port}"))

    def counts(self, port: int = 0) -> tuple[int, int]:
        """Frames so far: received, sent."""
        return _pair(COUNT, self.do(f"show port stats {port}"))

    def close(self) -> None:
        """End it."""
        if self.process.returncode is None:
            self._quit()
        self._reader.join()
        os.close(self._talk)

    def _quit(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"quit\n")
            self.process.stdin.close()
            self._wait_for("Bye...")
        except (RuntimeError, OSError):
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Testpmd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _pair(pattern: re.Pattern[str], text: str) -> tuple[int, int]:
    found = {each: int(number) for each, number in pattern.findall(text)}
    return found["R"], found["T"]
