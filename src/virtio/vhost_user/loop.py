"""The control thread's loop: descriptors with callbacks, calls from other threads, delays. Nothing more."""

from __future__ import annotations

import heapq
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

__all__ = ["ControlLoop"]

Callback: TypeAlias = Callable[[], None]


class ControlLoop:
    """Runs callbacks on one thread when their descriptors are ready. `call` alone may be used from others."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._calls: deque[Callback] = deque()
        self._delayed: list[tuple[float, int, Callback]] = []
        self._order = count()
        self._closed = False
        # Reentrant: a signal handler may call while the thread it interrupts does.
        self._lock = threading.RLock()
        self._epoll.register(self._wake, select.EPOLLIN)

    def on_readable(self, fd: int, callback: Callback | None) -> None:
        """Call ``callback`` whenever ``fd`` can be read or has ended; None: no longer."""
        self._set(self._readers, fd, callback)

    def on_writable(self, fd: int, callback: Callback | None) -> None:
        """Call ``callback`` whenever ``fd`` can be written; None: no longer."""
        self._set(self._writers, fd, callback)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; to be said before it is closed."""
        self._set(self._readers, fd, None)
        self._set(self._writers, fd, None)

    def call(self, callback: Callback) -> None:
        """Have ``callback`` run soon on the loop's thread. Any thread may say so."""
        self._calls.append(callback)
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._wake, 1)

    def call_later(self, seconds: float, callback: Callback) -> None:
        """Have ``callback`` run once, ``seconds`` from now."""
        heapq.heappush(self._delayed, (time.monotonic() + seconds, next(self._order), callback))

    def run_once(self, timeout: float | None = None) -> None:
        """Wait for something to be due, at most ``timeout`` seconds, and do all that is."""
        for fd, events in self._epoll.poll(self._patience(timeout)):
            if fd == self._wake:
                os.eventfd_read(self._wake)
                continue
            # Looked up at the last moment: an earlier callback may have taken this one away.
            if events & ~select.EPOLLOUT and (reader := self._readers.get(fd)):
                reader()
            if events & ~select.EPOLLIN and (writer := self._writers.get(fd)):
                writer()
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            heapq.heappop(self._delayed)[2]()

    def close(self) -> None:
        """Give back the loop's own descriptors."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._wake)
        self._epoll.close()

    def _patience(self, timeout: float | None) -> float | None:
        if self._calls:
            return 0
        if not self._delayed:
            return timeout
        due = max(0.0, self._delayed[0][0] - time.monotonic())
        return due if timeout is None else min(due, timeout)

    def _set(self, callbacks: dict[int, Callback], fd: int, callback: Callback | None) -> None:
        before = self._mask(fd)
        if callback is None:
            callbacks.pop(fd, None)
        else:
            callbacks[fd] = callback
        after = self._mask(fd)
        if not after and before:
            self._epoll.unregister(fd)
        elif after and not before:
            self._epoll.register(fd, after)
        elif after != before:
            self._epoll.modify(fd, after)

    def _mask(self, fd: int) -> int:
        reading = select.EPOLLIN if fd in self._readers else 0
        return reading | (select.EPOLLOUT if fd in self._writers else 0)
