"""Frames as datagrams."""

from libc.stdint cimport int64_t
from posix.uio cimport iovec

from virtio.network.fd_link cimport FdLink, Lane

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_TRUNC
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t recv(int fd, void *into, size_t room, int flags)


cdef class DgramLink(FdLink):
    cdef char remote[128]   # a sockaddr
    cdef int remote_length  # bytes; none: the socket is connected
    cdef object _name
    cdef object _closing
