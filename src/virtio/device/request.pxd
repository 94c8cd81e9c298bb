"""A descriptor chain as a device's Python code sees it."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from virtio.device.worker cimport QueueWorker
from virtio.memory.table cimport GuestMemory
from virtio.virtqueue.queue cimport Chain, DeviceQueue


cdef struct Cursor:
    uint32_t segment        # of the chain
    uint64_t offset         # within it
    uint64_t passed         # bytes, over all segments


@cython.final
@cython.freelist(64)
cdef class Request:
    """A descriptor chain, from its taking to its completion."""
    cdef QueueWorker worker
    cdef DeviceQueue queue
    cdef GuestMemory memory
    cdef Chain *chain           # NULL once completed
    cdef Cursor reading
    cdef Cursor writing
    cdef object readable_view
    cdef object writable_view
    cdef list views             # every view handed out, to be released

    cdef Chain *open(self) except NULL
    cdef object part(self, uint32_t index)
    cdef tuple parts(self, uint32_t first, uint32_t count)
    cdef void finish(self, uint32_t written)
    cdef bint done(self) noexcept


cdef Request new_request(QueueWorker worker, Chain *chain)
