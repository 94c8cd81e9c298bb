"""A transmit queue's buffers: frames are copied into them and given to the device in bursts."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from virtio.drivers.channel cimport Channel
from virtio.virtqueue.queue cimport Completion, DriverQueue

cdef enum:
    SHORTEST_FRAME = 14     # bytes: an Ethernet header
    LONGEST_FRAME = 65550   # bytes: an Ethernet header and an IP packet
    MOST_SLOTS = 64         # of one frame
    LAST = 0xFFFFFFFF       # ends a list of slots


@cython.final
cdef class Transmitter:
    cdef readonly Channel channel
    cdef DriverQueue queue
    cdef object buffer
    cdef char *bytes
    cdef uint64_t address
    cdef readonly uint32_t slots
    cdef readonly uint32_t slot_size    # bytes
    cdef uint32_t stride        # bytes from one to the next
    cdef readonly uint32_t header_size
    cdef uint32_t *links        # free slots, and the slots of a frame under way: what follows each
    cdef uint32_t free
    cdef readonly uint32_t free_count
    cdef readonly uint32_t longest      # bytes of the longest frame that fits
    cdef readonly uint64_t frames
    cdef readonly uint64_t total_bytes  # without headers

    cdef int allocate(self) except -1
    # Take back what the device is done with. Number of frames, or a RingFault.
    cdef int reclaim(self) noexcept nogil
    # Offer one frame. 0; -ENOSPC: there is no room now.
    cdef int put(self, const char *data, size_t length, const uint8_t *header) noexcept nogil
    cdef int put_object(self, object frame, object checker) except? -1
    cdef void release(self, uint32_t slot) noexcept nogil
    cdef void write_header(self, char *target, const uint8_t *header) noexcept nogil
