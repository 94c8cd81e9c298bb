"""The worker that runs a coroutine for each request."""

from virtio.device.worker cimport QueueWorker
from virtio.virtqueue.queue cimport Chain


cdef class CoroutineWorker(QueueWorker):
    """Runs a coroutine for each request, on an asyncio loop; it has no thread of its own."""
    cdef object handler
    cdef object failed
    cdef object host            # the LoopThread
    cdef object loop_           # its asyncio loop
    cdef dict running           # task -> Request
    cdef int watched_fd         # the kick fd registered with the loop, or -1
    cdef bint flush_due
    cdef bint look_due
    cdef bint holding           # a pause does not wait for what is in flight
    cdef object timer           # the next look at a driver that cannot kick

    cdef void gave(self)
    cdef int take_batch(self) except? -1000
