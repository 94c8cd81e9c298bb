"""What the queues of one disk share."""

from libc.stdint cimport uint64_t

from virtio.devices.blk.request cimport ID_BYTES
from virtio.storage.backend cimport Backend


cdef class Disk:
    """What the queues of one device share. Written by the control thread, read by the engines."""
    cdef Backend backend
    cdef uint64_t bytes             # capacity; atomic
    cdef int written_back           # 0: acknowledge no write that is not durable; atomic
    cdef readonly bint read_only
    cdef readonly str name
    cdef char identity[ID_BYTES]    # the answer to GET_ID
