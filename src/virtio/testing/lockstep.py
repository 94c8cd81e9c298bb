"""A device's worker and its driver on one thread: each publication is served before the call returns.

Without a second thread nothing depends on who is scheduled when. So what a request costs in instructions
comes out the same each time, and a test sees what a worker does with exactly the batch that it was given.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.virtio.device.worker import QueueWorker
from cython.cimports.virtio.drivers.channel import (
    CHANNEL_FINISHED,
    CHANNEL_INTERRUPTED,
    CHANNEL_TIMEOUT,
    Channel,
    monotonic_ns,
)

__all__ = ["LockstepChannel"]


class LockstepChannel(Channel):
    """A driver's channel that has no bells: the worker, never started, serves what is published at once.

    What the worker defers to other threads is waited for in `wait`. ``timed`` adds up the time spent in the
    worker, at the price of reading the clock twice for each publication.
    """

    def __init__(self, queue, worker: QueueWorker, *, timed: bool = False) -> None:
        Channel.__init__(self, queue, -1, -1, -1, poll_us=0)
        self.worker = worker
        self.timed = timed

    @property
    def ring_fault(self) -> int:
        """What the driver's end did wrong as the worker sees it (a RingFault), else 0."""
        return self.fault_met

    def publish_and_kick(self):
        begin: int64_t = 0
        found: cython.int
        self.queue.publish()
        self.rounds += 1
        if self.timed:
            begin = monotonic_ns()
        found = self.worker.serve()
        if self.timed:
            self.served_ns += monotonic_ns() - begin
        if found < 0:
            self.fault_met = found

    def wait_finished(self, timeout_ns):
        """Wait for the threads to which the worker gave what would block."""
        if self.queue.finished():
            return CHANNEL_FINISHED
        self.worker.collect()
        if self.queue.finished():
            return CHANNEL_FINISHED
        if self.worker.in_flight == 0 or timeout_ns == 0:
            return CHANNEL_TIMEOUT
        self.worker.wait(False)
        self.worker.collect()
        return CHANNEL_FINISHED if self.queue.finished() else CHANNEL_INTERRUPTED
