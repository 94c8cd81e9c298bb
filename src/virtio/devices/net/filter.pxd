"""Which frames a NIC lets through to its driver."""

from libc.stdint cimport uint32_t


cdef class ReceiveFilter:
    """Receive filtering (virtio 1.4, Network Device, Control Virtqueue)."""
    # `head`: the first `length` bytes of the frame, at least 18 unless the whole frame is shorter.
    cdef bint admits(self, const char *head, uint32_t length) noexcept nogil
