"""How long one queue's notifications may wait."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef class Moderation:
    """Set by the control queue, read by the queue's worker."""
    cdef uint64_t both      # packets in the low half, microseconds in the high one; atomic

    # The limits now; False if notifications are not to wait at all.
    cdef bint limits(self, uint32_t *packets, int64_t *nanoseconds) noexcept nogil
