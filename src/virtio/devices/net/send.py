"""Frames that the device sends by itself."""

from __future__ import annotations

import cython
from cython.cimports.libc.string import memset
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.network.frame import Frame
from cython.cimports.virtio.network.link import Link

__all__ = ["send"]


def send(link: Link, frame: bytes) -> bool:
    """Put one finished Ethernet frame into ``link``, as if the guest sent it. False: it had no room."""
    part = cython.declare(iovec)
    one = cython.declare(Frame)
    memset(cython.address(one), 0, cython.sizeof(Frame))
    part.iov_base = cython.cast(cython.p_void, cython.cast(cython.p_char, frame))
    part.iov_len = len(frame)
    one.segments = cython.address(part)
    one.count = 1
    one.length = len(frame)
    return link.put(0, cython.address(one), 1) == 1
