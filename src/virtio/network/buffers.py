"""Frames that Python has, put into a sink."""

from __future__ import annotations

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.network.copies import set_header
from cython.cimports.virtio.network.frame import BURST, LONGEST_FRAME, Frame, NetHeader

from virtio.errors import UsageError

__all__ = ["put_buffers"]


@cython.final
@cython.cclass
class Burst:
    """Up to BURST buffers of Python's, held while they are frames."""

    views: Py_buffer[BURST]
    segments: iovec[BURST]
    frames: Frame[BURST]
    count: cython.int

    def __dealloc__(self) -> None:
        self.clear()

    @cython.cfunc
    def clear(self) -> cython.void:
        i: cython.int
        for i in range(self.count):
            PyBuffer_Release(cython.address(self.views[i]))
        self.count = 0

    @cython.cfunc
    def add(self, buffer: object, header: cython.pointer[NetHeader]) -> cython.void:
        n: cython.int = self.count
        PyObject_GetBuffer(buffer, cython.address(self.views[n]), PyBUF_SIMPLE)
        self.count += 1
        length: cython.Py_ssize_t = self.views[n].len
        if not 0 < length <= LONGEST_FRAME:
            raise UsageError(f"a frame has 1 to {LONGEST_FRAME} bytes, not {length}")
        self.segments[n].iov_base = self.views[n].buf
        self.segments[n].iov_len = length
        self.frames[n].segments = cython.address(self.segments[n])
        self.frames[n].count = 1
        self.frames[n].length = length
        self.frames[n].header = header[0]

    @cython.cfunc
    def put(self, sink: Sink, queue: cython.int) -> cython.int:
        """Hand all on. Number taken."""
        taken: cython.int
        with cython.nogil:
            taken = sink.put(queue, self.frames, self.count)
        return taken


def put_buffers(sink, frames, queue=0, header=None):
    common = cython.declare(NetHeader)
    set_header(cython.address(common), header)
    burst: Burst = Burst()
    total: cython.int = 0
    taken: cython.int
    for frame in frames:
        burst.add(frame, cython.address(common))
        if burst.count == BURST:
            taken = burst.put(sink, queue)
            total += taken
            burst.clear()
            if taken < BURST:
                return total
    if burst.count > 0:
        total += burst.put(sink, queue)
    return total
