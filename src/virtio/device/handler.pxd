"""The worker that hands requests to a device's plain function."""

from virtio.device.worker cimport QueueWorker
from virtio.virtqueue.queue cimport Chain


cdef class HandlerWorker(QueueWorker):
    """Calls a plain function for each request, on the queue's own thread."""
    cdef object handler
    cdef object failed

    cdef void process(self, Chain **chains, int count) noexcept nogil
    cdef void serve_batch(self, Chain **chains, int count)
