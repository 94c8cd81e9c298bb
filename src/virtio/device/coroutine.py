"""The worker that runs a coroutine for each request: many in flight, completed in any order.

It lives on its device's asyncio loop, so it has no thread of its own: the loop watches the kick fd and the
wake fd. The hand-shake with the control thread is QueueWorker's. Everything here happens with the GIL held,
which is what keeps two threads from giving back chains at once.
"""

import asyncio
import logging

import cython
from cython.cimports.virtio.device.request import Request, new_request
from cython.cimports.virtio.device.worker import (
    BATCH,
    WORKER_PAUSE,
    WORKER_RUN,
    WORKER_STOP,
    QueueWorker,
    clear_fd,
    signal_fd,
)
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.table import memory_gone
from cython.cimports.virtio.virtqueue.queue import RING_MEMORY_GONE, Chain

__all__ = ["CoroutineWorker"]

logger = logging.getLogger("virtio.device")

POLL_SECONDS = 0.001  # between looks at the ring of a driver that cannot signal


class CoroutineWorker(QueueWorker):
    """Runs ``handler(request)``, a coroutine, as a task for each request.

    ``host`` is the LoopThread to run on. A request that the coroutine leaves open is completed with what
    was written to it; when it raises, or is cancelled because the queue stops, ``failed(request, error)``
    is called.
    """

    def __init__(self, queue, handler, failed, host):
        QueueWorker.__init__(self, queue)
        self.handler = handler
        self.failed = failed
        self.host = host
        self.running = {}
        self.watched_fd = -1

    # What the control thread calls.

    def start(self):
        """Begin serving on the loop, which is started if need be."""
        self.settled = WORKER_RUN
        self.state = WORKER_RUN
        self.loop_ = self.host.start()
        self.loop_.call_soon_threadsafe(self._begin)

    def hold_soon(self):
        """Take nothing more, but keep what is in flight: coroutines may be waiting for the outside."""
        self.holding = True
        QueueWorker.pause_soon(self)

    def pause_soon(self):
        """Finish what is in flight and wait, also where only a hold was asked for before."""
        if self.holding:
            self.holding = False
            atomic.store_int(cython.address(self.settled), WORKER_RUN, atomic.SEQ_CST)
        QueueWorker.pause_soon(self)

    def resume(self):
        """Serve again after a pause or a hold."""
        self.holding = False
        QueueWorker.resume(self)

    def on_own_thread(self):
        """Whether the caller is the loop's thread."""
        return self.host.is_current()

    def cancel(self):
        """Cancel the coroutines in flight."""
        self.loop_.call_soon_threadsafe(self._cancel)

    def close(self):
        """Let go of the device."""
        self.listener = None

    # What happens on the loop.

    def _begin(self):
        self.loop_.add_reader(self.wake_fd, self._on_wake)
        self._on_state()

    def _cancel(self):
        for task in list(self.running):
            task.cancel()

    def _on_wake(self):
        clear_fd(self.wake_fd)
        self._on_state()

    def _on_state(self):
        """Do what the control thread wants."""
        if atomic.load_int(cython.address(self.state), atomic.ACQUIRE) == WORKER_RUN:
            self._watch(self.kick_fd)
            self._look()
        else:
            self._watch(-1)
            held: cython.bint = self.holding and self.state == WORKER_PAUSE
            if held or not self.running:
                self._settle()

    def _settle(self):
        """Nothing is in flight: tell the control thread so."""
        self._flush()
        wanted = atomic.load_int(cython.address(self.state), atomic.ACQUIRE)
        if wanted == WORKER_RUN or self.settled == wanted:
            return
        if wanted == WORKER_STOP:
            self.loop_.remove_reader(self.wake_fd)
        atomic.store_int(cython.address(self.settled), wanted, atomic.RELEASE)
        signal_fd(self.settled_fd)

    def _watch(self, fd):
        """Have the loop watch this kick fd, and no other; without one, look by the clock."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.watched_fd >= 0:
            self.loop_.remove_reader(self.watched_fd)
        self.watched_fd = fd
        if fd >= 0:
            self.loop_.add_reader(fd, self._on_kick)
        elif self.state == WORKER_RUN and not self.in_band:
            self.timer = self.loop_.call_later(POLL_SECONDS, self._on_clock)

    def _on_clock(self):
        self.timer = self.loop_.call_later(POLL_SECONDS, self._on_clock)
        self._look()

    def _on_kick(self):
        if not clear_fd(self.kick_fd):
            # Readable, yet nothing to read: closed at the other end.
            self.kick_fd = -1
            self.in_band = True
            self._watch(-1)
        self._look()

    def _look(self):
        """Start a batch; come back for the next when the loop has had a turn."""
        self.look_due = False
        if self.state != WORKER_RUN or self.halted != 0:
            return
        self.queue.disable_notifications()
        count = self.take_batch()
        if count < 0:
            self.halt(count)
        elif count > 0 or self.queue.enable_notifications():
            self._look_soon()
        else:
            self.sleeps += 1

    def _look_soon(self):
        if not self.look_due:
            self.look_due = True
            self.loop_.call_soon(self._look)

    def take_batch(self):
        """Start a coroutine for each chain that is available, a batch at most: their number or a fault."""
        chains = cython.declare(cython.pointer[Chain][BATCH])
        i: cython.int
        count: cython.int = self.queue.take(chains, BATCH)
        if count > 0:
            self.requests += count
            self.batches += 1
        for i in range(count):
            request = new_request(self, chains[i])
            task = self.loop_.create_task(self.handler(request))
            self.running[task] = request
            task.add_done_callback(self._on_done)
        return RING_MEMORY_GONE if memory_gone(self.queue.table) else count

    def _on_done(self, task):
        request: Request = self.running.pop(task)
        error = asyncio.CancelledError("the queue stops") if task.cancelled() else task.exception()
        if error is not None:
            try:
                self.failed(request, error)
            except BaseException:
                logger.exception("%s: a failed request could not be reported", self.name)
        if not request.done():
            request.finish(request.writing.passed)
            self.gave()
        if self.state != WORKER_RUN and not self.running:
            self._settle()

    def gave(self):
        """Publish what was given back, once, when the loop has run what is ready now."""
        if not self.flush_due:
            self.flush_due = True
            if self.on_own_thread():
                self.loop_.call_soon(self._flush)
            else:
                self.loop_.call_soon_threadsafe(self._flush)

    def _flush(self):
        if self.flush_due:
            self.flush_due = False
            self.publish()
