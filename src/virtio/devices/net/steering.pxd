"""Which receive queue a frame goes to, and which hash is reported with it."""

from libc.stdint cimport uint16_t, uint32_t
from posix.time cimport CLOCK_MONOTONIC_COARSE

from virtio.devices.net.toeplitz cimport Hasher
from virtio.memory.clock cimport SECOND, read_clock
from virtio.network.frame cimport Frame

cdef enum:
    FLOWS = 4096            # places in the table of flows; flows that share one share a queue
    PAUSE = 20              # milliseconds without a frame in, after which none are left to be overtaken
    PATIENCE = 200          # milliseconds without a frame out on its pair, after which a flow has left that


cdef struct Path:           # where a flow comes in; the fields are atomic
    uint16_t pair           # plus one; 0: nothing was sent yet
    uint32_t received       # when a frame last came in; milliseconds, as they wrap
    uint32_t sent           # when one was last sent on that pair


# The present time, to some of them; it wraps.
cdef inline uint32_t milliseconds() noexcept nogil:
    return <uint32_t> (read_clock(CLOCK_MONOTONIC_COARSE) // (SECOND // 1000))


cdef class Steering:
    """Immutable but for what it learns: a NIC is given another one instead."""
    cdef Hasher hasher      # None: no hash is reported

    # The pair (0 for receiveq1) that the frame goes to; `hash` and `report` (HASH_REPORT_*) are always set.
    # `time` is in `milliseconds`. Any thread may call, several at once.
    cdef int choose(self, const Frame *frame, uint32_t time, uint32_t *hash, uint16_t *report) noexcept nogil
    # The driver transmitted a frame on this pair at this time. Any thread may call.
    cdef void sent(self, int pair, const Frame *frame, uint32_t time) noexcept nogil


cdef class FlowSteering(Steering):
    cdef readonly int pairs
    cdef Path paths[4096]


cdef class RssSteering(Steering):
    cdef uint16_t unclassified
    cdef uint32_t mask
    cdef uint16_t *table
