"""A descriptor chain as a device's Python code sees it.

The device-readable part comes first, then the device-writable part (virtio 1.4, 2.7.4.2). Each may lie
scattered over guest memory, as the driver pleases: ``read`` and ``write`` do not care, ``readable`` and
``writable`` are the short way where a part is contiguous, ``readable_parts`` and ``writable_parts`` give
every piece without a copy.
"""

# ruff: noqa: D102, F821 -- the .pxd declares these names and says what its methods do

import contextlib

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memmove
from cython.cimports.virtio.device.worker import QueueWorker
from cython.cimports.virtio.virtqueue.queue import Chain

from virtio.errors import RequestUseError

__all__ = ["Request"]


class Request:
    """A descriptor chain, from its taking to its completion. Made by the worker, handed to the handler.

    It is the device's until ``complete`` is called, or the handler returns or raises; after that every use
    raises RequestUseError. Its views stay safe to look at for as long as they are kept, but what they show is
    then the driver's.
    """

    def __init__(self):
        raise TypeError("requests come from a queue")

    @property
    def queue_index(self):
        """Which of the device's queues it came from, counted from 0."""
        return self.worker.index

    @property
    def completed(self):
        """Whether the request has been given back to the driver."""
        return self.chain == cython.NULL

    @property
    def readable_length(self):
        """Bytes the driver provided for the device to read."""
        return self.open().readable_length

    @property
    def writable_length(self):
        """Bytes the driver provided for the device to write."""
        return self.open().writable_length

    @property
    def unread(self):
        """Bytes that ``read`` has not yet returned."""
        return self.open().readable_length - self.reading.passed

    @property
    def written(self):
        """Bytes that ``write`` has written so far."""
        return self.writing.passed

    @property
    def readable(self):
        """The readable part as a memoryview: guest memory itself where contiguous, else a joined copy."""
        chain = self.open()
        if self.readable_view is None:
            self.readable_view = self.part(0) if chain.readable == 1 else memoryview(join(chain))
        return self.readable_view

    @property
    def writable(self):
        """The writable part as a memoryview over guest memory, to be used with ``complete(written)``.

        Raises RequestUseError where the driver scattered it over several buffers.
        """
        chain = self.open()
        if self.writable_view is None:
            if chain.writable > 1:
                raise RequestUseError(
                    f"the writable part of {self!r} lies in {chain.writable} separate buffers: "
                    "use write() or writable_parts"
                )
            self.writable_view = self.part(chain.readable) if chain.writable else memoryview(bytearray())
        return self.writable_view

    @property
    def readable_parts(self):
        """The readable part's buffers, in order, as memoryviews over guest memory."""
        return self.parts(0, self.open().readable)

    @property
    def writable_parts(self):
        """The writable part's buffers, in order, as memoryviews over guest memory."""
        chain = self.open()
        return self.parts(chain.readable, chain.writable)

    def read(self, size=-1):
        """The next ``size`` bytes of the readable part, fewer at its end; all the rest if negative."""
        chain = self.open()
        left: uint64_t = chain.readable_length - self.reading.passed
        wanted: uint64_t = left if size < 0 or size > left else size
        data = PyBytes_FromStringAndSize(cython.NULL, wanted)
        target: cython.p_char = PyBytes_AS_STRING(data)
        run: uint64_t = 0
        while wanted > 0:
            source = step(chain, cython.address(self.reading), wanted, cython.address(run))
            memcpy(target, source, run)
            target += run
            wanted -= run
        return data

    def write(self, data):
        """Append ``data``, any bytes-like object, to the writable part. Returns its length in bytes.

        Raises RequestUseError, and writes nothing, if it does not fit.
        """
        chain = self.open()
        buffer = cython.declare(Py_buffer)
        PyObject_GetBuffer(data, cython.address(buffer), PyBUF_SIMPLE)
        size: uint64_t = buffer.len
        try:
            if size > chain.writable_length - self.writing.passed:
                raise RequestUseError(
                    f"{size} bytes do not fit: {self!r} has room for "
                    f"{chain.writable_length - self.writing.passed} more"
                )
            scatter(chain, cython.address(self.writing), cython.cast(cython.p_char, buffer.buf), size)
        finally:
            PyBuffer_Release(cython.address(buffer))
        return size

    def complete(self, written=None):
        """Give the request back to the driver: ``written`` bytes of its writable part were written.

        None counts what ``write`` wrote. Raises RequestUseError if it was given back already, or if
        ``written`` is more than the writable part.
        """
        chain = self.open()
        if written is None:
            self.finish(cython.cast(uint32_t, self.writing.passed))
        elif 0 <= written <= chain.writable_length:
            self.finish(written)
        else:
            raise RequestUseError(f"{written} bytes cannot have been written to {self!r}")
        self.worker.gave()

    def __repr__(self):
        name = self.worker.name
        if self.chain == cython.NULL:
            return f"<Request of {name}, completed>"
        chain = self.chain
        return (
            f"<Request {chain.id} of {name}: {chain.readable_length} bytes readable, "
            f"{chain.writable_length} writable>"
        )

    def open(self):
        if self.chain == cython.NULL:
            raise RequestUseError(f"{self!r} belongs to the driver again")
        return self.chain

    def done(self):
        return self.chain == cython.NULL

    def part(self, index):
        """A view of one segment."""
        writable: cython.bint = index >= self.chain.readable
        host = cython.cast(cython.p_char, self.chain.segments[index].iov_base)
        view = self.memory.window(host, self.chain.segments[index].iov_len, writable)
        if self.views is None:
            self.views = []
        self.views.append(view)
        return view

    def parts(self, first, count):
        return tuple([self.part(index) for index in range(first, first + count)])

    def finish(self, written):
        """Give the chain back and let go of the guest's memory."""
        if self.worker.abandoned == 0:
            self.queue.give(self.chain, written)
        self.chain = cython.NULL
        self.readable_view = None
        self.writable_view = None
        if self.views is not None:
            for view in self.views:
                release(view)
            self.views = None
        self.queue = None
        self.memory = None


@cython.cfunc
def new_request(worker: QueueWorker, chain: cython.pointer[Chain]) -> Request:
    """A request over a chain just taken from the worker's queue."""
    request: Request = Request.__new__(Request)
    request.worker = worker
    request.queue = worker.queue
    request.memory = worker.queue.memory
    request.chain = chain
    request.writing.segment = chain.readable
    return request


@cython.cfunc
def release(view):
    """Cut a view off from guest memory, unless someone still looks through it."""
    with contextlib.suppress(BufferError):  # its holder keeps the memory mapped
        view.release()


@cython.cfunc
def join(chain: cython.pointer[Chain]) -> bytes:
    """A copy of the readable part."""
    i: uint32_t
    data = PyBytes_FromStringAndSize(cython.NULL, chain.readable_length)
    target: cython.p_char = PyBytes_AS_STRING(data)
    for i in range(chain.readable):
        memcpy(target, chain.segments[i].iov_base, chain.segments[i].iov_len)
        target += chain.segments[i].iov_len
    return data


@cython.cfunc
@cython.exceptval(check=False)
def step(
    chain: cython.pointer[Chain],
    cursor: cython.pointer[Cursor],
    wanted: uint64_t,
    run: cython.pointer[uint64_t],
) -> cython.p_char:
    """Where ``cursor`` stands, with how many of ``wanted`` bytes lie there in ``run``; moves it past them."""
    segment: uint32_t = cursor.segment
    start: cython.p_char = cython.cast(cython.p_char, chain.segments[segment].iov_base) + cursor.offset
    left: uint64_t = chain.segments[segment].iov_len - cursor.offset
    run[0] = min(left, wanted)
    cursor.passed += run[0]
    cursor.offset += run[0]
    if run[0] == left:
        cursor.segment += 1
        cursor.offset = 0
    return start


@cython.cfunc
@cython.exceptval(check=False)
def scatter(
    chain: cython.pointer[Chain], cursor: cython.pointer[Cursor], data: cython.p_char, size: uint64_t
) -> cython.void:
    """Copy ``size`` bytes, which fit, to where ``cursor`` stands, and move it on."""
    run: uint64_t = 0
    while size > 0:
        target = step(chain, cursor, size, cython.address(run))
        memmove(target, data, run)  # the source may be a view of this very memory
        data += run
        size -= run
