"""One direction of an impaired link: frames come in, and leave later, changed, twice or never."""

from libc.stdint cimport int64_t, uint64_t

from virtio.network.frame cimport BURST, Frame
from virtio.network.impair.chance cimport Chance
from virtio.network.impair.heap cimport Heap, Held
from virtio.network.link cimport Sink
from virtio.network.threads cimport pthread_cond_t, pthread_mutex_t

cdef enum:
    MOST_DRAINED = 4 * BURST    # frames that a caller of `put` hands on before it leaves the rest to the timer


cdef extern from "<stdint.h>" nogil:
    const int64_t NEVER "INT64_MAX"


cdef enum:                      # each has a chance of its own: switching one on leaves the others as they were
    LOSS = 0
    GILBERT = 1
    DUPLICATE = 2
    CORRUPT = 3
    REORDER = 4
    JITTER = 5
    PURPOSES = 8


cdef struct Share:
    double probability
    double correlation


cdef struct Settings:           # settings.Impairment says what they mean
    int64_t delay               # ns; so is jitter
    int64_t jitter
    double jitter_correlation
    int distribution
    Share loss
    bint gilbert
    double to_bad
    double to_good
    double loss_bad
    double loss_good
    Share duplicate
    Share corrupt
    Share reorder
    int64_t gap
    int64_t rate                # bytes in a second, 0: as fast as they come
    int64_t burst               # bytes; so are queue and overhead
    int64_t queue
    int64_t overhead
    bint police                 # drop what exceeds the rate, rather than have it wait
    int limit                   # frames


cdef struct Counters:
    uint64_t frames
    uint64_t bytes
    uint64_t passed
    uint64_t lost
    uint64_t duplicated
    uint64_t corrupted
    uint64_t reordered
    uint64_t over_rate
    uint64_t over_limit
    uint64_t no_room


cdef class Pipe(Sink):
    cdef Sink target
    cdef readonly object settings
    cdef readonly object seed
    cdef object thread
    cdef pthread_mutex_t mutex  # guards all that follows
    cdef pthread_cond_t wake    # the timer's
    cdef pthread_cond_t settled # nobody is in the target's `put`
    cdef Settings now
    cdef Counters counters
    cdef Chance chances[PURPOSES]
    cdef int engaged            # atomic: whether frames must take the long way
    cdef bint active
    cdef bint bad               # the Gilbert-Elliott model's state
    cdef int64_t since_leap     # frames delayed since the last one that overtook
    cdef int64_t paid_until     # ns: when the rate has paid for all that was let pass
    cdef Heap heap
    cdef bint delivering
    cdef bint closing
    cdef int64_t wakes_at       # ns: when the timer looks again by itself
    cdef bint manual
    cdef int64_t time           # ns: the manual clock

    cdef int64_t clock(self) noexcept nogil
    cdef void judge(self, int queue, const Frame *frame, int64_t now) noexcept nogil
    cdef bint loses(self) noexcept nogil
    cdef void hold(self, int queue, const Frame *frame, int64_t now) noexcept nogil
    cdef int64_t departure(self, const Frame *frame, int64_t now) noexcept nogil
    cdef int64_t backlog(self) noexcept nogil
    cdef int64_t lag(self) noexcept nogil
    cdef bint spoil(self, Held *held) noexcept nogil
    cdef void drain(self, int64_t now, int budget) noexcept nogil
    cdef int collect(self, int64_t now, Held **batch, int most) noexcept nogil
    cdef void hand_on(self, Held **batch, int count) noexcept nogil
    cdef void nudge(self) noexcept nogil
    cdef void settle(self) noexcept nogil
    cdef void wait(self) noexcept nogil
    cdef void serve(self) noexcept nogil
