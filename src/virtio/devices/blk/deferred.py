"""One queue's requests that would wait: with whom they are until they are done."""

from __future__ import annotations

import cython
from cython.cimports.virtio.devices.blk.request import take_all
from cython.cimports.virtio.memory import atomic


class Deferred:
    """The requests of one queue that would wait; this one leaves them all to the executor's threads."""

    def __cinit__(self) -> None:
        self.fd = -1

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.backend = executor.backend

    def put(self, request):
        if self.stranded or not self.start(request):
            self.hand_over(request)

    def start(self, request):
        return False

    def submit(self):
        pass

    def hand_over(self, request):
        if not self.executor.submit(request):
            self.stranded = True

    def finished(self):
        """Where there are no threads, this one serves their line, but only while it keeps nobody waiting.

        What is in flight may hold a lock of the backend's until it is taken note of here: a thread that
        waited for that lock with requests of its own in flight would wait for itself.
        """
        if self.stranded and self.in_flight == 0:
            self.stranded = False
            self.executor.serve(False)
        return take_all(self.lane)

    def arm(self):
        return True

    def cancel(self):
        atomic.store_int(cython.address(self.cancelled), 1, atomic.SEQ_CST)
