"""``python:MODULE:FUNCTION``: a link whose world is a Python function.

The function has a thread of its own, so the NIC never waits for it; what it is too slow for is dropped and
counted.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue as queues
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import cython
from cython.cimports.virtio.network.buffers import put_buffers
from cython.cimports.virtio.network.copies import frame_bytes, header_fields
from cython.cimports.virtio.network.frame import Frame

from virtio.errors import NetworkError, NetworkUrlError
from virtio.network.link import Link

__all__ = ["PythonLink", "find_handler"]

logger = logging.getLogger("virtio.network")

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do


class PythonLink:
    """Calls ``handler(frame, header)`` for each frame that the guest sends.

    ``frame`` is bytes, ``header`` a dictionary of the virtio-net header's fields: all 0 unless ``offloads``,
    feature bits CSUM and HOST_* as a mask, lets unfinished frames come. What the handler returns (one frame,
    a list of them or None) goes to the guest. An exception is logged once and counted. ``limit`` frames may
    wait for the handler.
    """

    def __init__(
        self,
        handler: Callable[[bytes, dict[str, int]], Any] | None = None,
        *,
        offloads: int = 0,
        limit: int = 4096,
    ) -> None:
        super().__init__()
        self.handler = handler
        self.offloads = offloads
        self.limit = limit
        self.lock = threading.Lock()
        self.queue = queues.SimpleQueue()
        self.counters = dict.fromkeys(("frames", "answered", "dropped", "no_room", "exceptions"), 0)
        self.thread = threading.Thread(target=self.run, name="virtio-python-link", daemon=True)
        if handler is not None:
            self.thread.start()

    @property
    def name(self) -> str:
        """``python:`` and the handler's module and name."""
        module = getattr(self.handler, "__module__", "")
        return f"python:{module}:{getattr(self.handler, '__qualname__', '')}"

    @property
    def accepts(self) -> int:
        """The offloads that the handler was said to understand."""
        return self.offloads

    def put(self, queue, frames, count):
        self.enqueue(queue, frames, count)
        return count

    def enqueue(self, queue, frames, count):
        burst: cython.pointer[cython.const[Frame]] = cython.cast(cython.pointer[cython.const[Frame]], frames)
        i: cython.int
        self.counters["frames"] += count
        if self.handler is None:
            return
        for i in range(count):
            if self.queue.qsize() >= self.limit:
                self.counters["dropped"] += count - i
                return
            self.queue.put(
                (frame_bytes(cython.address(burst[i])), header_fields(cython.address(burst[i].header)), queue)
            )

    def run(self) -> None:
        """Call the handler until `close`; the target of its thread."""
        while (item := self.queue.get()) is not None:
            frame, header, queue = item
            try:
                answer = self.handler(frame, header)
                if answer is not None:
                    self.send(
                        [answer] if isinstance(answer, (bytes, bytearray, memoryview)) else answer, queue
                    )
            except Exception:
                self.counters["exceptions"] += 1
                if not self.reported:
                    self.reported = True
                    logger.exception("%s failed; further failures are only counted", self.name)

    def send(self, frames: Iterable[bytes], queue: int = 0, header: dict[str, int] | None = None) -> int:
        """Put frames into the guest, from any thread: how many it had room for; the others are dropped.

        Raises UsageError for what is no frame.
        """
        burst = list(frames)
        taken: cython.int = 0
        with self.lock:
            if self.guest is not None:
                taken = put_buffers(self.guest, burst, queue, header)
            self.counters["answered"] += taken
            self.counters["no_room"] += len(burst) - taken
        return taken

    def disconnect(self) -> None:
        """Deliver nothing more: when this returns, no thread is in the guest's `put`."""
        with self.lock:
            Link.disconnect(self)

    def stats(self) -> dict[str, int]:
        """Counters of its own since it was opened.

        ``frames`` the guest sent, of which ``dropped`` found the handler busy and ``exceptions`` failed;
        ``answered`` went to the guest, ``no_room`` could not.
        """
        return dict(self.counters)

    def close(self) -> None:
        """End the handler's thread once it has handled what waits."""
        if self.thread.is_alive():
            self.queue.put(None)
            if self.thread is not threading.current_thread():
                self.thread.join(5.0)


def find_handler(text: str) -> Callable[[bytes, dict[str, int]], Any]:
    """The function that ``MODULE:FUNCTION`` names; modules are looked for here too. Raises NetworkError."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise NetworkUrlError(f"python:{text}: write python:MODULE:FUNCTION")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise NetworkError(f"python:{text}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise NetworkError(f"python:{text} is not a function")
    return found
