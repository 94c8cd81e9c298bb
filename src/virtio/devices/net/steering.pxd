"""Which receive queue a frame goes to."""

from libc.stdint cimport uint16_t, uint32_t

from virtio.network.frame cimport Frame


cdef class Steering:
    """Receive steering (virtio 1.4, Network Device, Receive-side scaling)."""
    # The index of the receiver, below 0 or beyond the last: none gets it. `hash` and `report` are what
    # HASH_REPORT tells the driver.
    cdef int choose(self, const Frame *frame, uint32_t *hash, uint16_t *report) noexcept nogil
