"""A load generator for network devices: one pair of queues, one thread, no GIL."""

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from virtio.drivers.channel cimport Channel
from virtio.drivers.net.receiver cimport Receiver
from virtio.drivers.net.transmitter cimport Transmitter
from virtio.virtqueue.queue cimport Completion, DriverQueue

cdef enum:
    BATCH = 32              # frames handled at once
    LOOKS = 16              # at the rings, between looks at the clock
    PAUSES = 16             # between looks at the rings: each takes the device a cache line that it writes
    ADDRESSES = 12          # bytes of the two addresses at a frame's start
    ECHOED = 1 << 30        # in a token of the transmit queue: a slot of the receive queue


@cython.final
cdef class NetLoad:
    cdef Receiver receiver
    cdef Transmitter transmitter
    cdef DriverQueue incoming
    cdef DriverQueue outgoing
    cdef bint flooding
    cdef bint receiving
    cdef bint echoing
    cdef bint swapping          # the addresses of what is echoed
    cdef bint stamping          # a number into every frame that is sent
    cdef bint polling
    cdef uint32_t length        # bytes of the frames that are sent, with header
    cdef uint32_t skipped       # buffers still to come of a frame that spans several
    cdef int fault_code
    cdef readonly uint64_t left         # frames still to be sent
    cdef readonly uint64_t sent
    cdef readonly uint64_t received
    cdef readonly uint64_t received_bytes
    cdef readonly uint64_t dropped      # not echoed: no room, or in several buffers
    cdef readonly int64_t cpu_ns
    cdef readonly int64_t elapsed_ns

    cdef int flood(self) noexcept nogil
    cdef int send_slot(self, uint32_t slot) noexcept nogil
    cdef int collect(self) noexcept nogil
    cdef int receive(self) noexcept nogil
    cdef int span(self, const Completion *part) noexcept nogil
    cdef int repost(self, uint32_t slot) noexcept nogil
    cdef int echo(self, const Completion *part) noexcept nogil
    cdef int turn(self, int64_t until) noexcept nogil
    cdef int idle(self, int64_t until) noexcept nogil
