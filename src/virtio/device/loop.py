"""The asyncio loop that a device's coroutines run on, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading

__all__ = ["LoopThread"]

logger = logging.getLogger("virtio.device")


class LoopThread:
    """An asyncio loop on a daemon thread, started when first needed and kept until ``close``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name=f"virtio-{self._name}-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def is_current(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return self._thread is threading.current_thread()

    def close(self) -> None:
        """Stop the loop and wait for its thread; no worker may be using it any more."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            if thread is not threading.current_thread():
                thread.join()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run until stopped, then end what is left of the device's own tasks."""
    asyncio.set_event_loop(loop)
    try:
        while not _ran_to_its_end(loop):
            pass
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    finally:
        loop.close()


def _ran_to_its_end(loop: asyncio.AbstractEventLoop) -> bool:
    """Run the loop. False if a task broke out of it: asyncio lets SystemExit through; a guest's must not."""
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt) as error:
        logger.error("a task tried to end the process with %r", error)
        return False
    return True
