"""A link whose world is a Python function."""

from virtio.network.link cimport Link


cdef class PythonLink(Link):
    cdef object handler
    cdef object queue           # what the guest sent, waiting for the handler
    cdef object thread
    cdef object lock            # held while frames go to the guest
    cdef readonly int limit     # frames that may wait
    cdef readonly int offloads
    cdef bint reported
    cdef dict counters

    cdef void enqueue(self, int queue, const void *frames, int count) noexcept with gil
