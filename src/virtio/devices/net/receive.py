"""The worker of a receive queue: it opens the intake, fetches frames from links that wait for it, and sleeps.

Frames are put into the ring by whoever has them (`intake`), so there is often nothing to do here. A link with
a file descriptor is read by this thread unless the transmitter does (`lead`): after it, look again for a
while as any worker does, then sleep on it. While the driver has no room its kick is waited for instead, so
that a link full of frames is left alone.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.errno import EAGAIN, ENOSPC
from cython.cimports.libc.stdint import int64_t
from cython.cimports.posix.time import timespec
from cython.cimports.virtio.device.worker import (
    POLLIN,
    WORKER_RUN,
    QueueWorker,
    clear_fd,
    now,
    pollfd,
    ppoll,
)
from cython.cimports.virtio.devices.net.intake import Intake
from cython.cimports.virtio.devices.net.lead import leave_lead, resume_lead
from cython.cimports.virtio.devices.net.moderation import Delay
from cython.cimports.virtio.devices.net.nic import Nic
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.network.frame import BURST

from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Receiver"]


class Receiver(QueueWorker):
    """Serves the receive queue of pair number ``pair``; with a ``delay`` its notifications may wait."""

    def __init__(self, queue: DeviceQueue, nic: Nic, pair: int, delay: Delay | None = None) -> None:
        QueueWorker.__init__(self, queue)
        self.nic = nic
        self.link = nic.link
        self.pair = pair
        self.link_fd = nic.link.receive_fd(pair)
        self.intake = Intake()
        self.intake.terms = cython.address(nic.terms)
        self.intake.counters = cython.address(nic.received[self.pair])
        self.delay = self.intake.delay = delay

    def configure(self, **settings) -> None:
        """Say what to serve with; only before the start or while settled."""
        QueueWorker.configure(self, **settings)
        bells: bool = self.call_fd < 0 and self.call_listener
        self.intake.serve(self.queue, self.call_fd, self.wake_fd, bells)

    def stats(self) -> dict[str, int]:
        """Counters since the start; the deliveries of other threads count too."""
        return {**QueueWorker.stats(self), **self.intake.stats()}

    # The loop.

    def loop(self):
        fault: cython.int
        while True:
            if atomic.load_int(cython.address(self.state), atomic.ACQUIRE) != WORKER_RUN:
                self.keep_out()
                if self.settle_here():
                    return
                continue
            fault = atomic.load_int(cython.address(self.intake.fault), atomic.ACQUIRE)
            if fault != 0:
                self.keep_out()
                atomic.store_int(cython.address(self.intake.fault), 0, atomic.RELEASE)
                self.halt(fault)
            elif self.halted != 0:
                self.wait(False)
            else:
                self.let_in()
                self.look_at_delay()
                self.ring()
                self.pump()

    def let_in(self):
        if not self.open:
            self.open = True
            self.intake.open()
            self.nic.admit(self.pair, cython.cast(cython.p_void, self.intake))

    def keep_out(self):
        """No thread is in the intake, nor comes there, once this returns."""
        if self.open:
            self.open = False
            self.nic.admit(self.pair, cython.NULL)
            self.intake.shut()
            self.ring()

    def look_at_delay(self):
        """Tell the driver what has waited long enough to be told."""
        if self.delay is not None and atomic.load_int(cython.address(self.delay.waiting), atomic.RELAXED):
            self.intake.end_delay()

    def ring(self):
        """Tell a driver without a call fd what other threads delivered: that takes the GIL."""
        if atomic.load_int(cython.address(self.intake.bell), atomic.ACQUIRE) != 0:
            atomic.store_int(cython.address(self.intake.bell), 0, atomic.SEQ_CST)
            with cython.gil:
                self.call()

    def pump(self):
        """Fetch what the link has, or sleep."""
        moved: cython.int = 0
        if self.link_fd < 0 or not resume_lead(cython.address(self.nic.leads[self.pair])):
            self.sleeps += 1
            self.rest(False, False, -1)
            return
        moved = self.link.receive(self.pair, BURST)
        if moved == -ENOSPC:
            self.wait_for_room()
            return
        self.held = 0
        if moved > 0:
            return
        if moved != 0 and moved != -EAGAIN:
            self.rest(False, False, TROUBLE_NS)
        elif not self.keep_looking():
            start: int64_t = now()
            self.sleeps += 1
            leave_lead(cython.address(self.nic.leads[self.pair]))
            self.rest(True, False, -1)
            self.adapt(now() - start, 0)

    def wait_for_room(self):
        """Sleep until the driver makes some. Where frames are steered others wait, too, so not for long."""
        steered: cython.bint = self.nic.steering is not None
        time: int64_t
        if not steered and self.look_for_room():
            return
        time = now()
        if self.held == 0:
            self.held = time
        elif steered and time - self.held >= PATIENCE_NS:
            self.held = 0
            atomic.store_int(cython.address(self.nic.hurried), 1, atomic.RELAXED)
            self.link.receive(self.pair, BURST)
            atomic.store_int(cython.address(self.nic.hurried), 0, atomic.RELAXED)
            return
        if not self.intake.ask_for_room():
            self.sleeps += 1
            self.rest(False, True, self.held + PATIENCE_NS - time if steered else -1)
            self.intake.want_no_kicks()
        elif steered:
            self.rest(False, False, LOOK_NS)  # it is another pair's, whose kicks are not for this thread

    def look_for_room(self):
        """Poll a driver that is just slower than the link. True if it paid, or there is something to do."""
        _: cython.int
        start: int64_t = now()
        self.polls += 1
        while now() - start < self.poll_ns:
            for _ in range(8):
                if self.queue.available():
                    self.polls_paid += 1
                    return True
                atomic.cpu_pause()
            if atomic.load_int(cython.address(self.state), atomic.RELAXED) != WORKER_RUN:
                return True
            if atomic.load_int(cython.address(self.intake.fault), atomic.RELAXED) != 0:
                return True
            self.look_at_delay()
        return False

    def keep_looking(self):
        """Ask the link again for the present window. True if it paid, or there is something else to do."""
        start: int64_t
        moved: cython.int
        if self.window_ns == 0:
            return False
        self.polls += 1
        start = now()
        while now() - start < self.window_ns:
            moved = self.link.receive(self.pair, BURST)
            if moved > 0:
                self.polls_paid += 1
                self.poll_longer()
                return True
            if moved != 0 and moved != -EAGAIN:
                return True
            if atomic.load_int(cython.address(self.state), atomic.RELAXED) != WORKER_RUN:
                return True
            if atomic.load_int(cython.address(self.intake.fault), atomic.RELAXED) != 0:
                return True
            self.look_at_delay()
            atomic.cpu_pause()
        return False

    def rest(self, for_link, for_kick, limit):
        slots = cython.declare(pollfd[4])
        time = cython.declare(timespec)
        if for_kick and self.kick_fd < 0 and not self.in_band:
            limit = 1000000  # a driver that cannot signal is looked at each millisecond
        slots[0].fd = self.wake_fd
        slots[1].fd = self.link_fd if for_link else -1  # ppoll skips negative fds
        slots[2].fd = self.kick_fd if for_kick else -1
        slots[3].fd = -1 if self.delay is None else self.delay.timer_fd
        slots[0].events = slots[1].events = slots[2].events = slots[3].events = POLLIN
        slots[0].revents = slots[1].revents = slots[2].revents = slots[3].revents = 0
        time.tv_sec = 0
        time.tv_nsec = limit if limit >= 0 else 0
        if ppoll(slots, 4, cython.address(time) if limit >= 0 else cython.NULL, cython.NULL) <= 0:
            return
        if slots[0].revents != 0:
            clear_fd(self.wake_fd)
        if slots[3].revents != 0:
            clear_fd(self.delay.timer_fd)
        if slots[2].revents == 0:
            return
        if clear_fd(self.kick_fd):
            self.kicks += 1
        else:
            # Readable, yet nothing to read: closed at the other end. Waiting for it would be a busy loop.
            self.kick_fd = -1
            self.in_band = True
