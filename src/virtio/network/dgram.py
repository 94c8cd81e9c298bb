"""Frames as datagrams, one each, as QEMU's ``-netdev dgram`` has them."""

from __future__ import annotations

from collections.abc import Callable

import cython
from cython.cimports.libc.errno import ECONNREFUSED, ECONNRESET, EINTR, errno
from cython.cimports.libc.stdint import int64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.uio import iovec

__all__ = ["DgramLink"]


class DgramLink:
    """A link over a datagram socket; what is sent goes to ``remote``, a sockaddr, or where it is connected.

    ``fd`` is the link's from now on. ``closing`` is called when the link was closed.
    """

    def __init__(
        self, name: str, fd: int, remote: bytes = b"", closing: Callable[[], None] | None = None
    ) -> None:
        FdLink.__init__(self, 1)
        if len(remote) > 128:
            raise ValueError("an address has at most 128 bytes")
        self._name, self._closing = name, closing
        self.remote_length = len(remote)
        memcpy(self.remote, cython.cast(cython.p_char, remote), self.remote_length)
        self.set_fd(0, fd)
        self.set_carrier(True)

    @property
    def name(self) -> str:
        """Its URL without options."""
        return self._name

    def fetch(self, lane, into, room):
        done: int64_t
        while True:
            done = recv(lane.fd, into, room, MSG_DONTWAIT | MSG_TRUNC)
            if done >= 0:
                return done
            # An earlier datagram found nobody there: that is no reason not to listen.
            if errno not in (EINTR, ECONNREFUSED, ECONNRESET):
                return -errno

    def emit(self, fd, parts, count):
        message = cython.declare(msghdr)
        done: int64_t
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        if self.remote_length:
            message.msg_name = self.remote
            message.msg_namelen = self.remote_length
        message.msg_iov = cython.cast(cython.pointer[iovec], parts)
        message.msg_iovlen = count
        while True:
            done = sendmsg(fd, cython.address(message), MSG_DONTWAIT | MSG_NOSIGNAL)
            if done >= 0:
                return done
            if errno != EINTR:
                return -errno

    def close(self) -> None:
        """Close the socket."""
        FdLink.close(self)
        if self._closing is not None:
            self._closing()
            self._closing = None
