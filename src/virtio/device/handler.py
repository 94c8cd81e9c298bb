"""The worker that hands requests to a device's plain function, a batch each time it takes the GIL."""

# ruff: noqa: D102 -- the .pxd declares these names and says what its methods do

import logging

import cython
from cython.cimports.virtio.device.request import Request, new_request
from cython.cimports.virtio.device.worker import QueueWorker

__all__ = ["HandlerWorker"]

logger = logging.getLogger("virtio.device")


class HandlerWorker(QueueWorker):
    """Calls ``handler(request)`` for each request, on the queue's own thread.

    A request that the handler leaves open is completed with what was written to it. When it raises,
    ``failed(request, error)`` is called.
    """

    def __init__(self, queue, handler, failed):
        QueueWorker.__init__(self, queue)
        self.handler = handler
        self.failed = failed

    def process(self, chains, count):
        with cython.gil:
            self.serve_batch(chains, count)

    def serve_batch(self, chains, count):
        i: cython.int
        request: Request
        handler = self.handler
        for i in range(count):
            request = new_request(self, chains[i])
            try:
                handler(request)
            except BaseException as error:
                self._failed(request, error)
            if not request.done():
                request.finish(request.writing.passed)

    def _failed(self, request, error):
        try:
            self.failed(request, error)
        except BaseException:
            logger.exception("%s: a failed request could not be reported", self.name)
