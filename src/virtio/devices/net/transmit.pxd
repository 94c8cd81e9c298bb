"""The worker of a transmit queue."""

cimport cython
from libc.stdint cimport uint64_t

from virtio.device.worker cimport BATCH, QueueWorker
from virtio.devices.net.moderation cimport Delay
from virtio.devices.net.nic cimport Nic
from virtio.devices.net.terms cimport Counters, WireHeader
from virtio.network.frame cimport BURST, Frame
from virtio.network.link cimport Link
from virtio.network.offload cimport Finisher
from virtio.virtqueue.queue cimport Chain

cdef enum:
    PART_BYTES = 1 << 17        # handed on and published before the rest of a batch is


@cython.final
cdef class Transmitter(QueueWorker):
    cdef Nic nic
    cdef Link link
    cdef int pair
    cdef int link_fd            # readable when the link has frames; -1: it delivers itself
    cdef int accepts            # what the link takes unfinished, as bits of Takes
    cdef Counters *counters
    cdef Counters sum
    cdef Delay delay            # of notifications; None: they never wait
    cdef uint64_t first         # chains taken before the present batch
    cdef Finisher finisher
    cdef Frame frames[BURST]    # ready for the link
    cdef int ready
    cdef uint64_t part          # bytes of frames since the last part of a batch was published

    cdef void tell(self) noexcept nogil
    cdef void read_link(self) noexcept nogil
    cdef void give_back(self) noexcept nogil
    cdef int read_run(self, Chain **chains, int count) noexcept nogil
    cdef void read_one(self, Chain *chain) noexcept nogil
    cdef bint read(self, Chain *chain, Frame *frame) noexcept nogil
    cdef bint understand(self, WireHeader *wire, Frame *frame) noexcept nogil
    cdef void finish(self, const Frame *frame) noexcept nogil
    cdef void hand_on(self) noexcept nogil
