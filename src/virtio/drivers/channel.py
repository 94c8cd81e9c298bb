"""A driver's queue with its two bells, and the way to wait for it: spin a little, then sleep.

Built on `DriverQueue`; nothing here knows what is in a request. Waiting happens without the GIL.
"""

from __future__ import annotations

import errno
import os

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.virtio.drivers.channel import (
    CHANNEL_FINISHED,
    CHANNEL_INTERRUPTED,
    CHANNEL_TIMEOUT,
    CHANNEL_WOKEN,
    MOST_SEGMENTS,
    POLLIN,
    monotonic_ns,
    poll_ns_until,
    pollfd,
    ring_bell,
    silence_bell,
)
from cython.cimports.virtio.memory.atomic import cpu_pause
from cython.cimports.virtio.virtqueue.queue import Buffer, Completion, DriverQueue

__all__ = ["FINISHED", "INTERRUPTED", "TIMEOUT", "WOKEN", "Channel"]

TIMEOUT = CHANNEL_TIMEOUT
FINISHED = CHANNEL_FINISHED
WOKEN = CHANNEL_WOKEN
INTERRUPTED = CHANNEL_INTERRUPTED

REAP_BATCH = cython.declare(cython.int, 64)


@cython.cclass
class Channel:
    """One thread at a time adds, one at a time waits and reaps; these two may be different threads."""

    def __init__(
        self, queue: DriverQueue, kick_fd: int, call_fd: int, wake_fd: int, *, poll_us: float = 50
    ) -> None:
        self.queue = queue
        self.kick_fd = kick_fd
        self.call_fd = call_fd
        self.wake_fd = wake_fd
        self.most_poll_ns = int(poll_us * 1000)
        self.poll_ns = 0
        queue.disable_notifications()

    def add(self, readable, writable, token) -> bool:
        """Offer a chain of (address, length) pairs. False if the ring has no room for it now."""
        buffers = cython.declare(Buffer[MOST_SEGMENTS])
        i: cython.int = 0
        status: cython.int
        if len(readable) + len(writable) > MOST_SEGMENTS:
            raise ValueError(f"a chain of more than {MOST_SEGMENTS} segments")
        for address, length in readable:
            buffers[i].address = address
            buffers[i].length = length
            i += 1
        for address, length in writable:
            buffers[i].address = address
            buffers[i].length = length
            i += 1
        status = self.queue.add(buffers, len(readable), len(writable), token)
        if status == -errno.ENOSPC:
            return False
        if status:
            raise ValueError(f"a chain the queue does not take: {os.strerror(-status)}")
        return True

    def publish(self) -> None:
        """Make all that was added visible to the device, and ring it if it wants to know."""
        self.publish_and_kick()

    def reap(self, limit: int = 64) -> list[tuple[int, int]] | None:
        """What finished: (token, bytes written) each. None if the device made nonsense of the ring."""
        completions = cython.declare(Completion[64])
        count: cython.int
        wanted: cython.int = min(limit, REAP_BATCH)
        count = self.queue.reap(completions, wanted)
        if count < 0:
            return None
        return [(completions[n].token, completions[n].written) for n in range(count)]

    @property
    def fault(self) -> int:
        """Why `reap` returned None: a RingFault, or 0."""
        return self.queue.fault

    def finished(self) -> bool:
        """Whether there is something to reap."""
        return self.queue.finished()

    def wait(self, timeout_ns: int = -1) -> int:
        """Wait for something to reap, without the GIL: FINISHED, TIMEOUT, WOKEN or INTERRUPTED."""
        result: cython.int
        limit: int64_t = timeout_ns
        with cython.nogil:
            result = self.wait_finished(limit)
        return result

    def arm(self) -> bool:
        """For event loops: ask to be rung. True if something finished already, so reap first."""
        silence_bell(self.call_fd)
        return self.queue.enable_notifications()

    def disarm(self) -> None:
        """No longer ask to be rung."""
        self.queue.disable_notifications()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def publish_and_kick(self) -> cython.void:
        """Ring only if the device asked for it."""
        if self.queue.publish():
            self.kicks += 1
            ring_bell(self.kick_fd)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def wait_finished(self, timeout_ns: int64_t) -> cython.int:
        """Spin for as long as it lately paid, then sleep on the bell."""
        begin: int64_t
        result: cython.int
        if self.queue.finished():
            return CHANNEL_FINISHED
        begin = monotonic_ns()
        if self.poll_ns and self.spin(begin + self.poll_ns):
            return CHANNEL_FINISHED
        result = self.sleep(timeout_ns)
        self.adapt(monotonic_ns() - begin)
        return result

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def spin(self, until: int64_t) -> cython.int:
        """Watch the ring until a time; the clock is read once in a while only."""
        _: cython.int
        while True:
            for _ in range(64):
                if self.queue.finished():
                    return 1
                cpu_pause()
            if monotonic_ns() >= until:
                return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def sleep(self, timeout_ns: int64_t) -> cython.int:
        """Ask to be rung and wait for a bell."""
        fds = cython.declare(pollfd[2])
        ready: cython.int
        if self.queue.enable_notifications():
            self.queue.disable_notifications()
            return CHANNEL_FINISHED
        fds[0].fd = self.call_fd
        fds[0].events = POLLIN
        fds[0].revents = 0
        fds[1].fd = self.wake_fd
        fds[1].events = POLLIN
        fds[1].revents = 0
        self.sleeps += 1
        ready = poll_ns_until(fds, 2, timeout_ns)
        self.queue.disable_notifications()
        if ready < 0:
            return CHANNEL_INTERRUPTED
        if fds[0].revents:
            silence_bell(self.call_fd)
        if self.queue.finished():
            return CHANNEL_FINISHED
        if fds[1].revents:
            return CHANNEL_WOKEN
        # Rung for something that was reaped already is no reason to report a timeout.
        return CHANNEL_INTERRUPTED if ready else CHANNEL_TIMEOUT

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def adapt(self, waited_ns: int64_t) -> cython.void:
        """Spin longer after short waits, not at all after a long one."""
        if waited_ns > self.most_poll_ns:
            self.poll_ns = 0
        else:
            self.poll_ns = min(self.most_poll_ns, max(self.poll_ns * 2, 10000))
