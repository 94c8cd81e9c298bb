"""Frames on a byte stream, each after its length."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.network.fd_link cimport FdLink, Lane
from virtio.network.frame cimport Frame

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t recv(int fd, void *into, size_t room, int flags)

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_write(int fd, uint64_t value)

cdef extern from "<errno.h>" nogil:
    enum:
        EPROTO

cdef enum:
    PREFIX = 4              # bytes of a length
    MOST_PARTS = 256        # of one sendmsg
    MOST_READS = 8          # in search of a frame, whatever else comes


cdef class StreamLink(FdLink):
    cdef pthread_mutex_t sending
    cdef pthread_mutex_t receiving
    cdef char *tail         # what the socket did not take yet of the last frame
    cdef size_t tail_at     # bytes of it that it took since
    cdef size_t tail_length
    cdef char *scratch      # a frame of very many segments in one piece
    cdef uint8_t (*prefixes)[PREFIX]
    cdef size_t start       # bytes in the arena that are not yet frames: start to end
    cdef size_t end
    cdef int broken         # errno; atomic
    cdef uint32_t bad_length
    cdef readonly bint apart  # each frame is sent by a call of its own
    cdef readonly int wake  # an eventfd: there is a tail, or the connection is broken
    cdef object _name
    cdef object _keeper
    cdef int parse(self, Lane *lane, int wanted) noexcept nogil
    cdef int64_t more(self, Lane *lane) noexcept nogil
    cdef void give_up(self, int error) noexcept nogil
    cdef int flush(self, int fd) noexcept nogil
    cdef int pack(self, const Frame *frames, int count, iovec *parts, int *used) noexcept nogil
    cdef int account(self, const Frame *frames, int count, const iovec *parts, int64_t done) noexcept nogil
    cdef void keep_tail(self, const iovec *parts, size_t skip, size_t length) noexcept nogil
    cdef int send_some(self, int fd, const Frame *frames, int count) noexcept nogil
    cdef int send_all(self, const Frame *frames, int count) noexcept nogil
