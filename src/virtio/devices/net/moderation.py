"""How long one queue's notifications may wait (virtio 1.4, Network Device, Notifications Coalescing).

A wait begins with the first packet that the driver wants to be told of, and ends with the packet or at the
time that its limits say. Whoever puts packets into the ring asks at once whether it is over; for the time a
timer's file descriptor wakes the queue's worker. The timer is not set again for each wait: one that expires
for a wait that is already over is set to the end of the present one, so that a busy ring costs one wake-up in
that time at most, and an idle one none.
"""

# ruff: noqa: D102, F821 -- the .pxd declares these names and says what its methods do

from __future__ import annotations

import os

import cython
from cython.cimports.libc.errno import errno
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.posix.time import CLOCK_MONOTONIC
from cython.cimports.posix.unistd import close
from cython.cimports.virtio.device.worker import now
from cython.cimports.virtio.memory import atomic

from virtio.errors import HostError

__all__ = ["Delay", "Moderation"]


class Moderation:
    """One queue's limits: that many packets, or that many microseconds since the first of them.

    Either of them 0: notifications do not wait.
    """

    def set(self, max_packets, max_usecs):
        """Set both, at once."""
        packets: uint32_t = max_packets
        usecs: uint32_t = max_usecs
        both: uint64_t = cython.cast(uint64_t, usecs) << 32 | packets
        atomic.store_u64(cython.address(self.both), both, atomic.RELAXED)

    @property
    def max_packets(self):
        """Packets after which the driver is notified."""
        return cython.cast(uint32_t, atomic.load_u64(cython.address(self.both), atomic.RELAXED))

    @property
    def max_usecs(self):
        """Microseconds after which the driver is notified."""
        return cython.cast(uint32_t, atomic.load_u64(cython.address(self.both), atomic.RELAXED) >> 32)

    def limits(self, packets, nanoseconds):
        both: uint64_t = atomic.load_u64(cython.address(self.both), atomic.RELAXED)
        packets[0] = cython.cast(uint32_t, both)
        nanoseconds[0] = cython.cast(int64_t, both >> 32) * 1000
        return packets[0] != 0 and nanoseconds[0] != 0


class Delay:
    """The notification of one ring that waits, as long as ``moderation`` says.

    Raises HostError when this process can have no more file descriptors.
    """

    def __cinit__(self, moderation):
        self.timer_fd = -1

    def __init__(self, moderation):
        self.moderation = moderation
        self.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
        if self.timer_fd < 0:
            raise HostError(f"no timer for a queue's notifications: {os.strerror(errno)}")

    def __dealloc__(self):
        if self.timer_fd >= 0:
            close(self.timer_fd)

    def holds(self, first, total):
        packets: uint32_t
        wait: int64_t
        if atomic.load_int(cython.address(self.waiting), atomic.RELAXED) == 0:
            if not self.moderation.limits(cython.address(packets), cython.address(wait)):
                return False
            self.first = first
            self.since = now()
            atomic.store_int(cython.address(self.waiting), 1, atomic.RELAXED)
        return not self.due(total)

    def due(self, total):
        packets: uint32_t
        wait: int64_t
        time: int64_t
        if atomic.load_int(cython.address(self.waiting), atomic.RELAXED) == 0:
            return False
        # The limits may have changed since the wait began: the new ones count.
        if not self.moderation.limits(cython.address(packets), cython.address(wait)):
            return self.end()
        time = now()
        if total - self.first >= packets or time - self.since >= wait:
            return self.end()
        if self.alarm <= time or self.alarm > self.since + wait:
            self.set_alarm(self.since + wait)
        return False

    def end(self):
        if atomic.load_int(cython.address(self.waiting), atomic.RELAXED) == 0:
            return False
        atomic.store_int(cython.address(self.waiting), 0, atomic.RELAXED)
        return True

    def set_alarm(self, when):
        at = cython.declare(itimerspec)
        memset(cython.address(at), 0, cython.sizeof(itimerspec))
        at.it_value.tv_sec = when // 1000000000
        at.it_value.tv_nsec = when % 1000000000
        timerfd_settime(self.timer_fd, TFD_TIMER_ABSTIME, cython.address(at), cython.NULL)
        self.alarm = when
