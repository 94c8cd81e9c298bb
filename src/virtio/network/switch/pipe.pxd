"""Frames into and out of a shared switch's socket."""

from libc.stdint cimport uint8_t, uint64_t
from posix.uio cimport iovec

from virtio.network.frame cimport BURST, Frame
from virtio.network.link cimport Link, Sink
from virtio.network.switch.message cimport PREFIX, mmsghdr, pollfd

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

cdef enum:
    SCRATCH = 1024          # segments in one system call


cdef struct Sending:        # a batch of messages on its way out
    int count
    int used                # of segments
    mmsghdr messages[BURST]
    uint8_t prefixes[BURST][PREFIX]
    iovec segments[SCRATCH]


cdef class Outlet(Sink):
    cdef readonly int fd
    cdef uint64_t unsendable        # frames that no packet can hold; atomic
    cdef int send(self, Sending *batch) noexcept nogil


cdef class Inlet:
    cdef uint8_t *buffers           # BURST of them, of LONGEST_MESSAGE bytes and some
    cdef readonly uint64_t invalid  # packets that were no frames
    cdef readonly uint64_t dropped  # frames that the receiver had no room for
    # Move what has come to `sink`, up to a burst. Packets moved; -EAGAIN: none has come; -EPIPE: the other side
    # left; -EPROTO: it sent what may not be sent there.
    cdef int move(self, int fd, Sink sink) noexcept nogil
    cdef int sort(self, mmsghdr *messages, int count, Frame *frames, iovec *segments, int *good) noexcept nogil


cdef class PipeLink(Link):
    cdef Outlet outlet
    cdef Inlet inlet
    cdef uint64_t sent              # frames; atomic
    cdef uint64_t dropped           # the switch took them too slowly; atomic
    cdef uint64_t received          # frames
    cdef pthread_mutex_t delivering
    cdef int deliver(self) noexcept nogil
    cdef int serve(self, int wake) noexcept nogil
