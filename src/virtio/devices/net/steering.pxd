"""Which receive queue a frame goes to, and which hash is reported with it."""

from libc.stdint cimport uint16_t, uint32_t

from virtio.devices.net.toeplitz cimport Hasher
from virtio.network.frame cimport Frame

cdef enum:
    FLOWS = 4096            # places in the table of flows; flows that share one share a queue


cdef class Steering:
    """Immutable but for what it learns: a NIC is given another one instead."""
    cdef Hasher hasher      # None: no hash is reported

    # The pair (0 for receiveq1) that the frame goes to; `hash` and `report` (HASH_REPORT_*) are always set.
    # Any thread may call, several at once.
    cdef int choose(self, const Frame *frame, uint32_t *hash, uint16_t *report) noexcept nogil
    # The driver transmitted a frame on this pair. Any thread may call.
    cdef void sent(self, int pair, const Frame *frame) noexcept nogil


cdef class FlowSteering(Steering):
    cdef readonly int pairs
    cdef uint16_t learned[4096]     # the pair that a flow was last sent on, plus one; atomic


cdef class RssSteering(Steering):
    cdef uint16_t unclassified
    cdef uint32_t mask
    cdef uint16_t *table
