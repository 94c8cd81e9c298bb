"""The loop that serves one queue: poll, take, act, publish, notify, sleep.

::

    serve: take a batch -> process -> harvest -> publish -> notify once, until nothing is left
    spin:  look again for a while, notifications off; longer while it pays, not at all while it does not
    sleep: notifications on, look once more, wait for a kick, a wake-up or a completion

The control thread never locks the data path. It sets ``state``, writes the wake eventfd and waits for
``settled`` to follow: the worker settles once every chain in flight has been given back. While it is
settled the control thread may change anything about it.
"""

# ruff: noqa: D102, F821 -- the .pxd declares these names and says what its methods do

import logging
import os
import threading

import cython
from cython.cimports.libc.errno import EAGAIN, EINTR, errno
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.posix.time import CLOCK_MONOTONIC, timespec
from cython.cimports.posix.unistd import close as close_fd
from cython.cimports.posix.unistd import read, write
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.clock import read_clock
from cython.cimports.virtio.memory.table import memory_gone
from cython.cimports.virtio.virtqueue.queue import (
    RING_IOTLB_MISS,
    RING_MEMORY_GONE,
    Chain,
    DeviceQueue,
)

from virtio.errors import HostError, UsageError

__all__ = ["QueueWorker"]

logger = logging.getLogger("virtio.device")

# Numbers for nogil code are declared in enums in the .pxd or written as literals beside their reason.


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def now() -> int64_t:
    """Nanoseconds of the monotonic clock."""
    return read_clock(CLOCK_MONOTONIC)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def signal_fd(fd: cython.int) -> cython.bint:
    """Add one to an eventfd. A full one has been signalled already, so a refusal is no loss."""
    one: uint64_t = 1
    return write(fd, cython.address(one), 8) == 8


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def clear_fd(fd: cython.int) -> cython.bint:
    """Read an eventfd back to zero; False if it is none, or closed at the other end."""
    count: uint64_t = 0
    length: cython.Py_ssize_t = read(fd, cython.address(count), 8)
    if length < 0:
        return errno in (EAGAIN, EINTR)
    return length > 0


class QueueWorker:
    """Serves one DeviceQueue on a thread of its own. A device's engine subclasses it.

    Life: made over a queue, ``configure``d, ``start``ed; ``pause_soon`` and ``settle``, then ``resume``,
    any number of times; ``stop_soon``, ``settle``, ``close``. Those are the control thread's.
    """

    def __cinit__(self):
        self.kick_fd = self.call_fd = self.err_fd = self.completion_fd = self.source_fd = -1
        self.wake_fd = self.settled_fd = -1

    def __init__(self, queue: DeviceQueue) -> None:
        self.queue = queue
        self.name = "queue"
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.settled_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.settled = WORKER_STOP
        self.state = WORKER_STOP

    def __dealloc__(self):
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
        if self.settled_fd >= 0:
            close_fd(self.settled_fd)

    # What the control thread calls.

    def configure(
        self,
        *,
        index: int = 0,
        name: str = "queue",
        kick_fd: int = -1,
        call_fd: int = -1,
        err_fd: int = -1,
        in_band: bool = False,
        poll_us: int = 50,
        cpus: object = None,
        listener: object = None,
        call_listener: bool = False,
    ) -> None:
        """Say what to serve with; only before the start or while settled. The fds stay the caller's.

        ``poll_us`` bounds the adaptive poll, in microseconds. ``cpus`` is a set of processor numbers to
        run on, read at the start. ``listener`` has on_fault(error), on_miss(address) and on_call().
        """
        self.index = index
        self.name = name
        self.kick_fd = kick_fd
        self.call_fd = call_fd
        self.err_fd = err_fd
        self.in_band = in_band
        self.poll_ns = max(poll_us, 0) * 1000
        self.window_ns = self.poll_ns
        self.cpus = cpus
        self.listener = listener
        self.call_listener = call_listener

    def start(self) -> None:
        """Serve on a new thread. Raises HostError when there can be no more threads."""
        self.settled = WORKER_RUN
        self.state = WORKER_RUN
        self.thread = threading.Thread(target=self.run, name=f"virtio-{self.name}", daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:
            self.settled = self.state = WORKER_STOP
            raise HostError(f"no thread for {self.name}: {error}") from error

    def run(self) -> None:
        """Serve on this thread until told to stop."""
        if self.cpus is not None:
            try:
                os.sched_setaffinity(0, self.cpus)
            except OSError as error:
                logger.warning("%s: cannot run on processors %s: %s", self.name, self.cpus, error)
        with cython.nogil:
            self.loop()

    def kick(self) -> None:
        """Look at the queue, as if the driver had signalled its kick fd."""
        signal_fd(self.wake_fd)

    def pause_soon(self) -> None:
        """Finish what is in flight and wait; ``settle`` tells when."""
        if self.state != WORKER_STOP:
            self._want(WORKER_PAUSE)

    def hold_soon(self) -> None:
        """Pause around a change of memory, after which the same queue goes on."""
        self.pause_soon()

    def stop_soon(self) -> None:
        """Finish what is in flight and end; ``settle`` tells when."""
        self._want(WORKER_STOP)

    def _want(self, state: cython.int) -> None:
        atomic.store_int(cython.address(self.state), state, atomic.SEQ_CST)
        self.wake()

    def settle(self, timeout: float) -> bool:
        """Wait until the worker does what it was told last; False after ``timeout`` seconds without.

        Raises UsageError on the worker's own thread, which would wait for itself.
        """
        if self.on_own_thread():
            raise UsageError(f"{self.name}: its own handler cannot stop or pause it; use another thread")
        slot = cython.declare(pollfd)
        limit = cython.declare(timespec)
        deadline: int64_t = now() + cython.cast(int64_t, timeout * 1e9)
        left: int64_t = 0
        while atomic.load_int(cython.address(self.settled), atomic.ACQUIRE) != self.state:
            left = deadline - now()
            if left <= 0:
                return False
            slot.fd = self.settled_fd
            slot.events = POLLIN
            limit.tv_sec = left // 1000000000
            limit.tv_nsec = left % 1000000000
            with cython.nogil:
                if ppoll(cython.address(slot), 1, cython.address(limit), cython.NULL) > 0:
                    clear_fd(self.settled_fd)
        return True

    def on_own_thread(self) -> bool:
        """Whether the caller is this worker's thread."""
        return self.thread is threading.current_thread()

    def replace(self, queue: DeviceQueue) -> None:
        """While paused: serve this ring from now on; after a miss, the same one with other memory."""
        self.queue = queue
        self.halted = 0

    def resume(self) -> None:
        """Serve again after a pause."""
        atomic.store_int(cython.address(self.settled), WORKER_RUN, atomic.SEQ_CST)
        self._want(WORKER_RUN)

    def cancel(self) -> None:
        """Give up what can be given up of the requests in flight. Plain threads cannot."""

    def abandon(self) -> None:
        """Never touch the ring again: nobody waits any longer for what is still in flight.

        The thread ends by itself when that is over, and keeps the guest's memory mapped until then.
        """
        atomic.store_int(cython.address(self.abandoned), 1, atomic.SEQ_CST)
        self.listener = None
        self.stop_soon()

    def close(self) -> None:
        """Wait for the end of the thread, after a stop has settled."""
        if self.thread is not None:
            self.thread.join()
        self.listener = None

    @property
    def faulted(self) -> bool:
        """Whether the queue broke and is no longer served."""
        return self.halted != 0 and self.halted != RING_IOTLB_MISS

    def stats(self) -> dict[str, int]:
        """Counters since the start; any thread may ask while the worker runs.

        ``suppressed`` are notifications that the driver did not want, ``kicks`` those of the driver that
        ended a sleep, ``polls`` adaptive polls and
        ``polls_paid`` those that found work, ``poll_ns`` how long the next one would be.
        """
        return {
            "requests": self.requests,
            "batches": self.batches,
            "notifications": self.notifications,
            "suppressed": self.suppressed,
            "sleeps": self.sleeps,
            "kicks": self.kicks,
            "polls": self.polls,
            "polls_paid": self.polls_paid,
            "poll_ns": self.window_ns,
            "in_flight": self.queue.outstanding,
        }

    # What an engine overrides. `process` cannot be left out: this one gives everything back unread.

    def process(self, chains, count):
        i: cython.int
        for i in range(count):
            self.queue.give(chains[i], 0)

    def harvest(self):
        return 0

    def gave(self):
        pass

    # The loop.

    def loop(self):
        found: cython.int
        while True:
            if atomic.load_int(cython.address(self.state), atomic.ACQUIRE) != WORKER_RUN:
                self.drain()
                if self.settle_here():
                    return
                continue
            if self.halted != 0:
                self.wait(False)
                self.collect()
                continue
            found = self.serve()
            if found < 0:
                self.halt(found)
            elif not self.spin() and not self.queue.enable_notifications():
                self.sleep()

    def serve(self):
        """Take and process until nothing is left: 0, or the RingFault that ended it."""
        chains = cython.declare(cython.pointer[Chain][BATCH])
        count: cython.int
        before: int64_t
        self.queue.disable_notifications()
        while True:
            before = self.queue.outstanding
            count = self.queue.take(chains, BATCH)
            if self.slept != 0:
                self.adapt(self.slept, count)
                self.slept = 0
            if count > 0:
                before += count
                self.peak = before
                self.requests += count
                self.batches += 1
                self.process(chains, count)
            self.in_flight = self.harvest()
            if self.queue.outstanding != before:
                self.publish()
            if memory_gone(self.queue.table):
                return RING_MEMORY_GONE
            if count <= 0:
                return count
            if atomic.load_int(cython.address(self.state), atomic.RELAXED) != WORKER_RUN:
                return 0

    def collect(self):
        """Give back what finished elsewhere, and say so."""
        before: int64_t = self.queue.outstanding
        self.in_flight = self.harvest()
        if self.queue.outstanding != before:
            self.publish()

    def publish(self):
        if atomic.load_int(cython.address(self.abandoned), atomic.ACQUIRE) != 0:
            return
        if self.queue.publish() or self.owed:
            self.notify()
        else:
            self.suppressed += 1
        self.woken = self.owed = False

    def publish_part(self):
        if atomic.load_int(cython.address(self.abandoned), atomic.ACQUIRE) != 0 or not self.queue.publish():
            return
        if self.woken:
            self.owed = True
        else:
            self.woken = True
            self.notify()

    def notify(self):
        self.notifications += 1
        if self.call_fd >= 0:
            signal_fd(self.call_fd)
        elif self.call_listener:
            with cython.gil:
                self.call()

    def drain(self):
        """Wait until every chain in flight has been given back."""
        self.collect()
        while self.in_flight > 0:
            self.wait(False)
            self.collect()

    def settle_here(self):
        """Tell the control thread that its wish is met. True if that was to stop, else wait for another."""
        wanted: cython.int = atomic.load_int(cython.address(self.state), atomic.ACQUIRE)
        if wanted == WORKER_RUN:
            return False
        if atomic.load_int(cython.address(self.settled), atomic.RELAXED) != wanted:
            atomic.store_int(cython.address(self.settled), wanted, atomic.RELEASE)
            signal_fd(self.settled_fd)
        if wanted == WORKER_STOP:
            return True
        self.wait(False)
        return False

    def halt(self, reason):
        """Serve no more, for a fault or an address that is not yet translated."""
        self.halted = reason
        if reason != RING_IOTLB_MISS:
            self.queue.fault = reason  # memory that vanished may have looked like another fault first
            if self.err_fd >= 0:
                signal_fd(self.err_fd)
        with cython.gil:
            self.report(reason)

    def report(self, reason):
        listener = self.listener
        if listener is None:
            return
        try:
            if reason == RING_IOTLB_MISS:
                listener.on_miss(self.queue.fault_detail)
            else:
                listener.on_fault(self.queue.fault_error())
        except Exception:
            logger.exception("%s: a fault could not be reported", self.name)

    def call(self):
        listener = self.listener
        try:
            if listener is not None:
                listener.on_call()
        except Exception:
            logger.exception("%s: the driver could not be notified", self.name)

    # Waiting.

    def spin(self):
        """Look for work for up to the present window. True if there is some, or the state has changed."""
        start: int64_t
        waited: int64_t
        window: int64_t = self.window_ns
        _: cython.int
        if window == 0:
            return False
        if self.in_flight * 2 > self.peak and window > PATIENCE_NS:
            window = PATIENCE_NS
        self.polls += 1
        start = now()
        while True:
            for _ in range(8):
                if self.queue.available():
                    self.polls_paid += 1
                    self.poll_longer()
                    return True
                atomic.cpu_pause()
            if self.in_flight > 0 or self.source_fd >= 0:
                self.collect()
            if atomic.load_int(cython.address(self.state), atomic.RELAXED) != WORKER_RUN:
                return True
            waited = now() - start
            if waited >= window:
                return False
            if waited >= SELFISH_NS:
                sched_yield()

    def sleep(self):
        start: int64_t = now()
        self.sleeps += 1
        self.wait(True)
        self.slept = now() - start

    def adapt(self, slept, count):
        """Poll longer if a longer poll would have saved this sleep, else less, down to not at all.

        Where it kept many chains waiting (``count``) the driver is busy, whatever the clock says: a processor
        that was halted may need longer to wake up than the longest poll. Then a short one finds out.
        """
        if slept <= self.poll_ns + self.poll_ns // 2:  # the wake-up itself is part of what was measured
            self.poll_longer()
        elif count >= BATCH // 2:
            self.window_ns = min(self.poll_ns, max(self.window_ns // 2, SHORTEST_POLL_NS))
        else:
            self.window_ns = self.window_ns // 2 if self.window_ns > 4000 else 0

    def poll_longer(self):
        """Double the present window, up to the longest."""
        self.window_ns = min(self.poll_ns, max(self.window_ns * 2, SHORTEST_POLL_NS))

    def wait(self, for_kick):
        """Sleep until woken, until a completion, or (``for_kick``) until the driver or the source signals."""
        slots = cython.declare(pollfd[4])
        limit = cython.declare(timespec)
        timed: cython.bint = for_kick and self.kick_fd < 0 and not self.in_band
        slots[0].fd = self.wake_fd
        slots[1].fd = self.completion_fd
        slots[2].fd = self.kick_fd if for_kick else -1  # ppoll skips negative fds
        slots[3].fd = self.source_fd if for_kick else -1
        slots[0].events = slots[1].events = slots[2].events = slots[3].events = POLLIN
        slots[0].revents = slots[1].revents = slots[2].revents = slots[3].revents = 0
        limit.tv_sec = 0
        limit.tv_nsec = 1000000  # a driver that cannot signal is looked at each millisecond
        if ppoll(slots, 4, cython.address(limit) if timed else cython.NULL, cython.NULL) <= 0:
            return
        if slots[0].revents != 0:
            clear_fd(self.wake_fd)
        if slots[1].revents != 0:
            clear_fd(self.completion_fd)
        if slots[2].revents == 0:
            return
        if clear_fd(self.kick_fd):
            self.kicks += 1
        else:
            # Readable, yet nothing to read: closed at the other end. Waiting for it would be a busy loop.
            self.kick_fd = -1
            self.in_band = True

    def wake(self):
        signal_fd(self.wake_fd)
