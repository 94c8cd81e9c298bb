"""One receive ring of a NIC, into which any thread puts frames."""

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from virtio.devices.net.joiner cimport Joiner
from virtio.devices.net.moderation cimport Delay
from virtio.devices.net.terms cimport Counters, Terms, WireHeader
from virtio.network.frame cimport Frame
from virtio.network.offload cimport Finisher
from virtio.virtqueue.queue cimport Chain, DeviceQueue

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, const void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)

cdef enum:
    AHEAD = 32              # buffers taken before they are needed

cdef enum Placed:
    PLACED = 0
    NO_ROOM = 1             # nothing was written: try again when there are buffers
    DROPPED = 2             # counted


cdef struct Copy:
    char *target            # of the header; the frame follows it
    const char *source
    uint32_t length         # bytes


@cython.final
cdef class Intake:
    """The ring, its lock, and buffers that were taken and not used yet.

    Everything below `lock` is used under it only, and the ring only while `opened`: the worker closes the
    intake before it lets the control thread touch the queue.
    """
    cdef const Terms *terms
    cdef Counters *counters
    cdef Finisher finisher          # made when first needed, by the worker
    cdef Joiner joiner              # None: the driver has no use for it
    cdef pthread_mutex_t lock
    cdef DeviceQueue queue
    cdef bint opened
    cdef bint starved               # a frame was refused since the worker last asked
    cdef int call_fd                # we tell the driver; -1: the worker does, woken, if `bells`
    cdef int wake_fd                # of the worker
    cdef bint bells                 # the driver is told by a call of the worker's
    cdef int bell                   # it is to be told; atomic
    cdef int fault                  # the RingFault that closed it, until the worker has seen it; atomic
    cdef Chain **stash              # chains taken and not used
    cdef int filled                 # of them: from here to `first` they hold frames, to be given back together
    cdef int first
    cdef int end
    cdef int capacity
    cdef uint32_t stashed_slots     # ring descriptors of those chains
    cdef Delay delay                # of notifications; None: they never wait
    cdef uint64_t packets           # put into the ring
    cdef Counters sum               # of this burst
    cdef uint64_t requests          # chains given back with a frame
    cdef uint64_t bursts
    cdef uint64_t notifications
    cdef uint64_t suppressed

    # For any thread: put frames into the ring. `hashes` and `reports` may be NULL. Number taken.
    cdef int deliver(
        self, const Frame *frames, int count, const uint32_t *hashes, const uint16_t *reports
    ) noexcept nogil
    # For the worker.
    cdef void open(self) noexcept nogil
    cdef void shut(self) noexcept nogil
    # The driver gave no room: ask to be told of more. True if there is some already.
    cdef bint ask_for_room(self) noexcept nogil
    cdef void want_no_kicks(self) noexcept nogil
    # Tell the driver what has waited long enough to be told.
    cdef void end_delay(self) noexcept nogil

    cdef int place_run(self, const Frame *frames, int count) noexcept nogil
    cdef int place(self, const Frame *frame, int takes, uint32_t hash, uint16_t report, int ahead) noexcept nogil
    cdef int place_joined(
        self, const Frame *frames, int count, int takes, uint32_t hash, uint16_t report, int *used
    ) noexcept nogil
    cdef void add_hash(self, WireHeader *wire, uint32_t hash, uint16_t report) noexcept nogil
    cdef int spread(self, const Frame *frame, int takes, uint32_t hash, uint16_t report) noexcept nogil
    cdef int gather(self, uint64_t needed) noexcept nogil
    cdef int finish(self, const Frame *frame, uint32_t hash, uint16_t report) noexcept nogil
    cdef bint refill(self, int wanted) noexcept nogil
    cdef void give_next(self, uint32_t written) noexcept nogil
    cdef void flush(self, bint full) noexcept nogil
    cdef void give_all(self, uint64_t first, bint full) noexcept nogil
    cdef bint holds(self, uint64_t first, bint full) noexcept nogil
    cdef void notify(self) noexcept nogil
    cdef void fail(self, int fault) noexcept nogil
