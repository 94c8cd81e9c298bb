"""A device's worker and its driver on one thread: each publication is served before the call returns."""

from libc.stdint cimport int64_t, uint64_t

from virtio.device.worker cimport QueueWorker
from virtio.drivers.channel cimport Channel


cdef class LockstepChannel(Channel):
    cdef readonly QueueWorker worker
    cdef bint timed
    cdef int fault_met              # RingFault that ended serving, else 0
    cdef readonly int64_t served_ns # in the worker, when timed
    cdef readonly uint64_t rounds   # publications served

    # Publish, and have the worker serve all that is there.
    cdef void publish_and_kick(self) noexcept nogil
    # Wait for what the worker deferred to other threads.
    cdef int wait_finished(self, int64_t timeout_ns) noexcept nogil
