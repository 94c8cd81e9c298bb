"""A receive queue's buffers: posted, filled by the device, lent to Python as frames, posted again."""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from virtio.drivers.channel cimport Channel
from virtio.virtqueue.queue cimport Completion, DriverQueue

cdef enum:
    LONGEST_HEADER = 20     # bytes, with HASH_REPORT
    HEADER_NUM_BUFFERS = 10 # where it is in the header
    REAPED = 64             # completions looked at together
    # What the device did wrong with a frame; beside the numbers of RingFault.
    FRAME_SHORT = -64       # fewer bytes than the header has
    FRAME_BUFFERS = -65     # a number of buffers that cannot be


@cython.final
cdef class Receiver:
    cdef readonly Channel channel
    cdef DriverQueue queue
    cdef object buffer          # the arena's; freed when nothing is lent any more
    cdef char *bytes            # its first byte, here
    cdef uint64_t address       # and for the device
    cdef readonly uint32_t slots
    cdef readonly uint32_t slot_size    # bytes
    cdef uint32_t stride        # bytes from one to the next
    cdef readonly uint32_t header_size  # bytes
    cdef readonly bint mergeable
    cdef readonly int pair
    cdef uint32_t *free         # slots that are neither posted nor lent
    cdef uint32_t free_count
    cdef readonly uint32_t lent # slots that frames show
    cdef bint retired           # the queue is gone; only frames still use the memory
    cdef Completion *finished   # reaped and not yet made frames of
    cdef uint32_t first, last
    cdef readonly int fault     # FRAME_... or a RingFault
    cdef readonly uint64_t fault_detail
    cdef readonly uint64_t frames
    cdef readonly uint64_t total_bytes  # without headers
    cdef readonly uint64_t copied       # frames that were not lent

    cdef int allocate(self) except -1
    cdef void recycle(self, uint32_t slot) noexcept nogil
    cdef void give_back(self, uint32_t slot)
    # Post every free slot. Number posted; nothing is shown to the device yet.
    cdef int post_free(self) noexcept nogil
    # How many buffers the next frame spans: 0 if it has not come entirely, else a number or a FRAME_... fault.
    cdef int next_frame(self) noexcept nogil
    cdef int gather(self) noexcept nogil
    cdef int wrong(self, int fault, uint64_t detail) noexcept nogil
    cdef char *slot_bytes(self, uint32_t slot) noexcept nogil
    cdef Frame make_frame(self, int buffers)
    cdef void join(self, char *target, int buffers) noexcept nogil


@cython.final
@cython.no_gc
cdef class Frame:
    """A received frame."""
    cdef Receiver receiver      # whose slot it shows; None: the bytes are its own
    cdef uint32_t slot
    cdef char *start
    cdef Py_ssize_t length
    cdef object storage
    cdef readonly int pair      # of queues it came by
    cdef uint8_t head[LONGEST_HEADER]
    cdef int head_size
