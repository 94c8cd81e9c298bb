"""A link to the world as a port of a switch: what it does not take unfinished is finished for it."""

from __future__ import annotations

import os
import threading

import cython
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.frame import BURST, Frame
from cython.cimports.virtio.network.link import Link
from cython.cimports.virtio.network.offload import Finisher, finished
from cython.cimports.virtio.network.switch.fabric import Port
from cython.cimports.virtio.network.switch.grace import usleep
from cython.cimports.virtio.network.switch.message import POLLIN, poll, pollfd
from cython.cimports.virtio.network.switch.pipe import (
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

from virtio.network.offload import GUEST_BITS, takes_of

__all__ = ["Uplink"]

TAKES_ALL = sum(1 << bit for bit in GUEST_BITS)  # a switch takes any frame, as feature bits GUEST_*


class Uplink:
    """Connects ``link`` and ``port`` with each other, until `close`; both are its own from then on.

    A link that waits for a file descriptor gets a thread.
    """

    def __cinit__(self) -> None:
        pthread_mutex_init(cython.address(self.lock), cython.NULL)

    def __init__(self, link: Link, port: Port, url: str = "") -> None:
        self.link = link
        self.port = port
        self.url = url
        self.takes = takes_of(link.accepts, host=True)
        self.finisher = Finisher()
        self.wake = -1
        port.connect(self)
        try:
            link.connect(port)
            link.set_guest_offloads(TAKES_ALL)
            self.start()
        except BaseException:
            port.disconnect()
            raise

    def __dealloc__(self) -> None:
        pthread_mutex_destroy(cython.address(self.lock))

    def start(self) -> None:
        """Watch the link's file descriptor, if it has one."""
        fd = self.link.receive_fd(0)
        if fd < 0:
            return
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.thread = threading.Thread(target=self.watch, args=(fd,), name="virtio-uplink", daemon=True)
        self.thread.start()

    def watch(self, fd: int) -> None:
        """Move what comes, on a thread of its own."""
        at: cython.int = fd
        wake: cython.int = self.wake
        with cython.nogil:
            self.pump(at, wake)

    def pump(self, fd, wake):
        fds = cython.declare(pollfd[2])
        while True:
            fds[0].fd = fd
            fds[0].events = POLLIN
            fds[0].revents = 0
            fds[1].fd = wake
            fds[1].events = POLLIN
            fds[1].revents = 0
            poll(fds, 2, -1)
            if fds[1].revents:
                return
            # What is readable and yet brings nothing is an error that lasts: no reason to keep a core busy.
            if fds[0].revents and self.link.receive(0, BURST) < 0:
                usleep(1000)

    def put(self, queue, frames, count):
        start: cython.int = 0
        end: cython.int = 0
        taken: cython.int = 0
        while start < count:
            end = start
            while end < count and finished(cython.address(frames[end].header), self.takes, frames + end):
                end += 1
            if end > start:
                taken += self.link.put(queue, frames + start, end - start)
            else:
                end = start + 1
                pthread_mutex_lock(cython.address(self.lock))
                taken += self.finish(queue, frames + start)
                pthread_mutex_unlock(cython.address(self.lock))
            start = end
        return taken

    def finish(self, queue, frame):
        """Send what becomes of one frame; 1 if all of it went, or it cannot be finished."""
        made = cython.declare(Frame[BURST])
        count: cython.int
        whole: cython.int = 1
        self.finisher.recycle()
        if self.finisher.begin(frame) != 0:
            atomic.add_u64(cython.address(self.unfinished), 1, atomic.RELAXED)
            return 1
        while True:
            count = 0
            while count < BURST and self.finisher.next(cython.address(made[count])):
                count += 1
            if count == 0:
                return whole
            if self.link.put(queue, made, count) < count:
                whole = 0
            self.finisher.recycle()

    def stats(self) -> dict[str, int]:
        """The link's own counters, and frames that could not be finished, ``unfinished``."""
        return {**self.link.stats(), "unfinished": self.unfinished}

    def close(self) -> None:
        """Let go of the link, and take the port out of the switch."""
        if self.closed:
            return
        self.closed = True
        self.link.disconnect()
        if self.thread is not None:
            os.eventfd_write(self.wake, 1)
            self.thread.join()
            os.close(self.wake)
        self.port.close()
        self.link.close()
