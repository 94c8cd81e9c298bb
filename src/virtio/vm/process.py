"""The launcher's side of the keeper: starts it, hands it the guest, learns of the guest's end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from virtio.errors import GuestError, GuestTimeoutError

__all__ = ["FIRST_FD", "Plugs", "Process"]

KEEPER = Path(__file__).with_name("keeper.py")
FIRST_FD = 20
"""The guest's sockets have consecutive numbers from here."""

KEEPER_SECONDS = 10.0
MESSAGE_LIMIT = 1 << 20


class Plugs:
    """The guest's ends of the sockets between us: each gets its file descriptor number in the hypervisor."""

    def __init__(self) -> None:
        self.guest_ends: list[socket.socket] = []

    def plug(self) -> tuple[socket.socket, int]:
        """A new connection: our end, and the number of the guest's."""
        ours, theirs = socket.socketpair()
        self.guest_ends.append(theirs)
        return ours, FIRST_FD + len(self.guest_ends) - 1

    def close(self) -> None:
        """Close the guest's ends here: the guest has them by now, or never will."""
        for end in self.guest_ends:
            end.close()


class Process:
    """A hypervisor that dies with us, in its own temporary directory that goes with it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._keeper = subprocess.Popen(
                # Isolated and without site: it starts in a few milliseconds and imports nothing of ours.
                [sys.executable, "-I", "-S", str(KEEPER), str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self.pid: int | None = None
        """The hypervisor's process id, once started."""
        self.status: int | None = None
        """Its exit status, once it ended; negative: the signal that killed it."""
        message = self._receive(KEEPER_SECONDS)
        if not message:
            self.close()
            raise GuestError("the guest's keeper process did not start")
        self.directory = Path(message["directory"])

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        sockets: Sequence[socket.socket],
        *,
        isolate: bool,
    ) -> None:
        """Run ``argv``; copies of ``sockets`` become its file descriptors FIRST_FD and up."""
        request = {
            "argv": argv,
            "environment": dict(os.environ) | dict(environment),
            "first_fd": FIRST_FD,
            "isolate": isolate,
        }
        socket.send_fds(self._socket, [json.dumps(request).encode()], [one.fileno() for one in sockets])
        message = self._receive(KEEPER_SECONDS)
        if not message:
            raise GuestError("the guest's keeper process died")
        self.pid = message["pid"]

    def fileno(self) -> int:
        """Readable when the guest has ended (for selectors)."""
        return self._socket.fileno()

    def poll(self) -> int | None:
        """The exit status when it has ended, without waiting."""
        with suppress(GuestTimeoutError):
            self.wait(0)
        return self.status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the guest's end and return its status; GuestTimeoutError after ``timeout`` seconds."""
        if self.status is None:
            message = self._receive(timeout)
            if message is None:
                self._keeper_died()
            self.status = message["status"] if message else -signal.SIGKILL
        return self.status

    def kill(self) -> None:
        """Kill the hypervisor and wait for its end."""
        if self.pid is not None and self.poll() is None:
            # Not yet waited for by the keeper, so the number is still its own.
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait(KEEPER_SECONDS)

    def close(self) -> None:
        """End everything and remove the directory."""
        self._socket.close()
        try:
            self._keeper.wait(KEEPER_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        if self._keeper.returncode != 0:
            self._keeper_died()
        if self.status is None:
            self.status = -signal.SIGKILL

    def _keeper_died(self) -> None:
        """Do its work: the kernel has killed the hypervisor, but perhaps not that one's children."""
        if self.pid is not None and self.status is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def _receive(self, timeout: float | None) -> dict[str, Any] | None:
        """The keeper's next message, None when it has gone."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        try:
            data = self._socket.recv(MESSAGE_LIMIT)
        except (TimeoutError, BlockingIOError):
            raise GuestTimeoutError(f"the guest did not end within {timeout:g} s") from None
        except ConnectionError:
            return None
        return json.loads(data) if data else None
