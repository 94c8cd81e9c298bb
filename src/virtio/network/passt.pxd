"""Frames on their way to passt."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from virtio.network.frame cimport Frame
from virtio.network.stream cimport StreamLink

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int nanosleep(const timespec *wanted, timespec *left)

cdef enum:
    PEEK = 128              # bytes of a frame that are looked at: the headers
    CLOSINGS = 256          # connections that are remembered to be at their end
    NAPS = 50               # of NAP nanoseconds each, until passt has read what it was sent
    NAP = 20000
    FIN = 1                 # TCP's flags (RFC 9293, section 3.1)
    SYN = 2


cdef struct Segment:        # what matters of one of TCP
    uint64_t connection     # a hash of both addresses and ports
    uint8_t flags


cdef class PasstLink(StreamLink):
    cdef object _mtu
    cdef uint64_t closing[CLOSINGS]     # connections, each at the place that its hash says; 0: none
    cdef bint waits(self, const Frame *frame) noexcept nogil
    cdef bint has_read(self, int fd) noexcept nogil
    cdef int send_some(self, int fd, const Frame *frames, int count) noexcept nogil
