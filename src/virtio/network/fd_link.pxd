"""Links that are file descriptors: bursts out of them and into them, straight from and to guest memory."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.uio cimport iovec

from virtio.network.frame cimport BURST, HEADER, LONGEST_FRAME, Frame, NetHeader
from virtio.network.link cimport Link

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CLOEXEC
        EPOLLIN
    cdef struct epoll_event:
        uint32_t events
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event *event)

cdef extern from "<errno.h>" nogil:
    enum:
        EBADFD

cdef enum:
    ARENA = 256 << 10       # bytes for the frames of one burst; always room for the longest one
    PARTS = 64              # segments that are handed to the kernel as they are, the header among them
    SHORTEST_FRAME = 14     # bytes: an Ethernet header


cdef enum Loss:             # why a frame did not go out
    LOSS_NONE = 0
    LOSS_FULL = 1           # no room now: it is the caller's to keep
    LOSS_DOWN = 2
    LOSS_REFUSED = 3
    LOSS_UNREACHABLE = 4


cdef struct Lane:
    int fd                  # -1: none
    int watch               # an epoll set of that one descriptor: its number stays when that changes or goes
    char *arena
    int first               # frames that wait for room in the guest: first to count - 1
    int count
    bint dry                # the last read found nothing more
    Frame frames[BURST]
    iovec segments[BURST]


cdef class FdLink(Link):
    cdef Lane *lanes
    cdef readonly int lane_count
    cdef readonly int header_size   # bytes before each frame, HEADER or none
    cdef int carrier                # atomic
    cdef uint64_t sent              # the counters are atomic
    cdef uint64_t sent_bytes
    cdef uint64_t received
    cdef uint64_t received_bytes
    cdef uint64_t full              # bursts that were cut short
    cdef uint64_t down
    cdef uint64_t refused
    cdef uint64_t unreachable
    cdef uint64_t runts
    cdef uint64_t giants
    cdef readonly int last_error    # errno
    cdef object tell
    # Read the next frame (with its header) into `into`; its bytes, or a negative errno.
    cdef int64_t fetch(self, Lane *lane, char *into, size_t room) noexcept nogil
    # Write one frame that `parts` hold, header first; bytes written, or a negative errno.
    cdef int64_t emit(self, int fd, const iovec *parts, int count) noexcept nogil
    # Fill the lane with up to `wanted` frames; how many, or a negative errno.
    cdef int fill(self, Lane *lane, int wanted) noexcept nogil
    cdef int send(self, int fd, const Frame *frame) noexcept nogil
    cdef int send_long(self, int fd, const Frame *frame) noexcept nogil
    cdef int judge(self, int error) noexcept nogil
    cdef void lose(self, Lane *lane, int error) noexcept nogil
    cdef bint keep_frame(self, Lane *lane, int slot, char *start, int64_t length) noexcept nogil


cdef inline void flatten(const Frame *frame, char *into) noexcept nogil:
    """Copy a frame's bytes to one place."""
    cdef int i
    for i in range(frame.count):
        memcpy(into, frame.segments[i].iov_base, frame.segments[i].iov_len)
        into += frame.segments[i].iov_len
