"""From a burst that came in at a port to bursts that leave by others."""

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.network.frame cimport BURST, Frame
from virtio.network.switch.fdb cimport Fdb
from virtio.network.switch.grace cimport Grace
from virtio.network.switch.vlan cimport TAGGED, Head, Membership, Rules

cdef extern from *:
    """
    static __thread int virtio_switch_depth;
    """
    int depth "virtio_switch_depth"     # switches that this thread is in, one inside the other

cdef enum:
    MAX_PORTS = 1024
    PORT_WORDS = 16         # of 64 bits, one for each port
    DEEPEST = 6             # switches behind switches; beyond, they are taken for a loop
    SCRATCH = 1024          # segments of a sub-burst whose headers are rewritten
    FLOOD = -2              # Verdict.target: every port
    NO_PORT = -3            # Verdict.target: dropped, and counted

cdef enum:                  # a port's counters
    IN_FRAMES = 0
    IN_BYTES = 1
    FLOODED = 2
    LEARNED = 3
    MOVED_HERE = 4
    UNLEARNED = 5
    DROPPED_VLAN = 6
    DROPPED_INVALID = 7
    DROPPED_RESERVED = 8
    DROPPED_ISOLATED = 9
    DROPPED_LOCAL = 10
    DROPPED_STORM = 11
    DROPPED_LOOP = 12
    DROPPED_MONITOR = 13
    INCOMING = 16           # the others are written by those who send to the port, on lines of their own
    OUT_FRAMES = 16
    OUT_BYTES = 17
    MIRRORED = 18
    DROPPED_FULL = 19
    DROPPED_DOWN = 20
    STORM_SECOND = 30       # to which the next one belongs
    STORM_FRAMES = 31
    ALL_COUNTERS = 32


cdef struct Member:         # a port, as a snapshot has it
    PyObject *owner         # the Port; NULL: there is none of this number
    PyObject *sink          # where its frames go; NULL: nobody is connected
    uint64_t *counters      # ALL_COUNTERS; atomic
    Rules rules
    bint isolated
    bint monitor            # gets copies, and nothing else
    bint watched            # a monitor gets copies of its frames
    uint64_t storm          # frames to be flooded in a second; 0: any number
    uint64_t watches[PORT_WORDS]    # a monitor's ports, a bit each


cdef struct Snapshot:       # all ports; never changed once it is in place
    int limit               # their numbers are below
    Member members[1]       # as many as `limit`


cdef struct Verdict:        # on one frame
    int target              # a port's number, FLOOD or NO_PORT
    Head head
    Membership found


cdef struct Burst:
    Snapshot *snapshot
    Member *source
    int port                # the source's number
    int queue
    const Frame *frames
    int count
    uint32_t now            # seconds
    uint64_t tally[INCOMING]
    Verdict verdicts[BURST]


cdef struct Outgoing:       # a sub-burst on its way to one port
    int count
    int used                # of segments
    Frame frames[BURST]
    iovec segments[SCRATCH]
    uint8_t heads[BURST][TAGGED]


cdef class Forwarder:
    cdef readonly Fdb fdb
    cdef readonly bint forward_reserved
    cdef Grace grace
    cdef void *snapshot         # Snapshot; atomic
    cdef int64_t frozen         # seconds that the clock shows; negative: the machine's

    # Whether this thread is in a switch's `forward`.
    cdef bint inside(self) noexcept nogil
    # Put a snapshot in place, and free the old one once no thread can see it.
    cdef void use(self, Snapshot *snapshot) noexcept nogil
    # What came in at `port`, which is still the owner's; returns `count`.
    cdef int forward(self, PyObject *owner, int port, int queue, const Frame *frames, int count) noexcept nogil
    cdef uint32_t now(self) noexcept nogil
    cdef void burst(self, Burst *burst) noexcept nogil
    cdef void judge(self, Burst *burst) noexcept nogil
    cdef int target(self, Burst *burst, const Head *head, int vlan) noexcept nogil
    cdef bint admit(self, Burst *burst, const Head *head, Membership *found) noexcept nogil
    # Whether the table changed.
    cdef bint learn(self, Burst *burst, uint64_t key) noexcept nogil
    cdef bint may_flood(self, Burst *burst) noexcept nogil
    cdef void distribute(self, Burst *burst) noexcept nogil
    cdef void flood_all(self, Burst *burst, int egress) noexcept nogil
    cdef void deliver(self, Burst *burst, int egress) noexcept nogil
    cdef void collect(self, Burst *burst, int egress, int index, Outgoing *out) noexcept nogil
    cdef void hand(self, Burst *burst, int egress, const Frame *frames, int count) noexcept nogil
    cdef void mirror(self, Burst *burst, int port, const Frame *frames, int count) noexcept nogil
