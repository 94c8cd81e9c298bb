"""The block device's data path.

A request is a chain: a header of 16 bytes the device reads, then data, then a status byte as the very last
the device writes. Where the driver cut this into buffers means nothing, except to how it is parsed here.

Reads and writes that follow each other in one batch and on the disk become one system call. What would wait
(a cold read, a flush, a durable write) goes to io_uring, or else to the executor's threads and comes back
through the lane, in any order. A FLUSH covers every write acknowledged before it came, since those have
reached the page cache or the medium; it need not wait for others.
"""

from __future__ import annotations

import logging
import os

import cython
from cython.cimports.libc.errno import EAGAIN
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free, malloc
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.time import CLOCK_MONOTONIC_COARSE
from cython.cimports.posix.uio import iovec
from cython.cimports.virtio.device.worker import BATCH
from cython.cimports.virtio.devices.blk.executor import perform
from cython.cimports.virtio.devices.blk.request import (
    HEADER,
    ID_BYTES,
    S_IOERR,
    S_OK,
    S_UNSUPP,
    SECTOR,
    T_DISCARD,
    T_FLUSH,
    T_FLUSH_OUT,
    T_GET_ID,
    T_IN,
    T_OUT,
    T_WRITE_ZEROES,
    UNREAD,
    Request,
    await_visitors,
    swap_u32,
    swap_u64,
)
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.memory.clock import SECOND, read_clock
from cython.cimports.virtio.storage.backend import gather, scatter
from cython.cimports.virtio.storage.linux import IOV_MAX
from cython.cimports.virtio.virtqueue.queue import Chain

logger = logging.getLogger("virtio.blk")

NAMES = {0: "read", 1: "write", 4: "flush", 5: "flush", 11: "discard", 13: "write of zeroes"}


class BlkEngine(QueueWorker):
    """Serves one request queue of a block device."""

    def __init__(
        self,
        queue: DeviceQueue,
        disk: Disk,
        executor: Executor,
        *,
        always_durable: bool = False,
        discard: bool = True,
        write_zeroes: bool = True,
        big_endian: bool = False,
        deferred: Deferred | None = None,
    ) -> None:
        QueueWorker.__init__(self, queue)
        self.disk = disk
        self.backend = disk.backend
        self.always_durable = always_durable
        self.discards = discard
        self.zeroes = write_zeroes
        self.swap = big_endian
        self.lane.wake_fd = self.wake_fd
        self.deferred = deferred if deferred is not None else Deferred(executor)
        self.deferred.lane = cython.address(self.lane)
        self.completion_fd = self.deferred.fd
        self._allocate(queue.size)

    def _allocate(self, size: cython.int) -> None:
        i: cython.int
        self.slots = cython.cast(cython.pointer[Request], calloc(size, cython.sizeof(Request)))
        self.joined = cython.cast(cython.pointer[iovec], malloc(IOV_MAX * cython.sizeof(iovec)))
        if self.slots == cython.NULL or self.joined == cython.NULL:
            raise MemoryError
        for i in range(size):
            self.slots[i].lane = cython.address(self.lane)
            self.slots[i].next = self.free
            self.free = cython.address(self.slots[i])

    def __dealloc__(self) -> None:
        await_visitors(cython.address(self.lane))
        free(self.slots)
        free(self.joined)

    def process(self, chains, count):
        requests = cython.declare(cython.pointer[Request][BATCH])
        request: cython.pointer[Request]
        ready: cython.int = 0
        i: cython.int
        for i in range(count):
            request = self.begin(chains[i])
            if request != cython.NULL:
                requests[ready] = request
                ready += 1
        for i in range(min(ready, AHEAD)):
            self.backend.hint(requests[i].offset * SECTOR, requests[i].length)
        for i in range(ready):
            if i + AHEAD < ready:
                request = requests[i + AHEAD]
                self.backend.hint(request.offset * SECTOR, request.length)
            self.act(requests[i])
        self.end_run()
        if self.deferred.queued:
            self.deferred.submit()

    def harvest(self):
        following: cython.pointer[Request]
        request: cython.pointer[Request] = self.deferred.finished()
        while request != cython.NULL:
            following = request.next
            self.pending -= 1
            self.finish(request)
            request = following
        return self.pending

    def wait(self, for_kick):
        if self.deferred.arm():
            QueueWorker.wait(self, for_kick)

    def cancel(self) -> None:
        """Have the kernel end what it has not begun; threads cannot be stopped."""
        self.deferred.cancel()
        self.wake()

    def begin(self, chain):
        """Make a request of a chain; NULL if the chain is already answered for."""
        last: cython.pointer[iovec]
        request: cython.pointer[Request] = self.free
        if chain.writable == 0 or request == cython.NULL:
            # Nowhere to put a status: whatever was asked is not done, and the buffers go back unwritten.
            self.queue.give(chain, 0)
            return cython.NULL
        self.free = request.next
        last = chain.segments + chain.readable + chain.writable - 1
        request.chain = chain
        request.answer = cython.cast(cython.pointer[uint8_t], last.iov_base) + last.iov_len - 1
        request.result = 0
        request.status = S_OK
        request.swap = self.swap
        request.trimmed = False
        request.type = UNREAD
        if not self.parse(request):
            self.fail(request, S_IOERR)
            return cython.NULL
        return request

    def parse(self, request):
        """Read the header and find the data. False if there is no whole header.

        Header and status byte are taken off the chain's segments in place; `finish` puts the latter back.
        """
        chain: cython.pointer[Chain] = request.chain
        header: uint64_t[2]
        skip: uint64_t = HEADER
        first: uint32_t = 0
        if chain.readable_length < HEADER:
            return False
        if chain.segments[0].iov_len >= HEADER:
            memcpy(header, chain.segments[0].iov_base, HEADER)
        else:
            gather(chain.segments, chain.readable, 0, cython.cast(cython.p_char, header), HEADER)
        request.type = cython.cast(uint32_t, header[0])
        request.offset = header[1]
        if self.swap:
            request.type = swap_u32(request.type)
            request.offset = swap_u64(header[1])
        if request.type == T_IN or request.type == T_GET_ID:
            request.data = chain.segments + chain.readable
            request.segments = chain.writable
            request.length = chain.writable_length - 1
            request.trimmed = True
            request.data[chain.writable - 1].iov_len -= 1
            if request.data[chain.writable - 1].iov_len == 0:
                request.segments -= 1
            return True
        while first < chain.readable and skip >= chain.segments[first].iov_len:
            skip -= chain.segments[first].iov_len
            first += 1
        if skip > 0:
            chain.segments[first].iov_base = cython.cast(cython.p_char, chain.segments[first].iov_base) + skip
            chain.segments[first].iov_len -= skip
        request.data = chain.segments + first
        request.segments = chain.readable - first
        request.length = chain.readable_length - HEADER
        return True

    def act(self, request):
        type: uint32_t = request.type
        request.capacity = atomic.load_u64(cython.address(self.disk.bytes), atomic.RELAXED)
        request.durable = self.always_durable or (
            atomic.load_int(cython.address(self.disk.written_back), atomic.RELAXED) == 0
        )
        if type in (T_IN, T_OUT):
            self.transfer(request)
        elif type == T_GET_ID:
            self.identify(request)
        elif (
            type in (T_FLUSH, T_FLUSH_OUT)
            or (type == T_DISCARD and self.discards)
            or (type == T_WRITE_ZEROES and self.zeroes)
        ):
            self.defer(request)
        else:
            self.fail(request, S_UNSUPP)

    def transfer(self, request):
        """Start a read or a write, once it is known to be whole sectors of this disk."""
        sectors: uint64_t = request.capacity // SECTOR
        length: uint64_t = request.length // SECTOR
        if request.length % SECTOR != 0 or request.offset > sectors or length > sectors - request.offset:
            self.fail(request, S_IOERR)
            return
        if request.type == T_OUT and self.disk.read_only:
            self.fail(request, S_IOERR)
            return
        request.offset *= SECTOR
        if request.length == 0:
            self.finish(request)
        elif request.type == T_OUT and request.durable:
            self.defer(request)
        else:
            self.extend_run(request)

    def identify(self, request):
        """GET_ID: as much of the 20 bytes as there is room for, then zeroes."""
        size: uint64_t = request.length if request.length < ID_BYTES else ID_BYTES
        blank(request.chain)
        scatter(request.data, request.segments, 0, self.disk.identity, size)
        self.finish(request)

    def extend_run(self, request):
        """Add a read or write to the run if it continues it, else begin another run with it."""
        if (
            self.run_count == 0
            or request.type != self.run_first.type
            or request.offset != self.run_first.offset + self.run_length
            or self.run_segments + request.segments > IOV_MAX
            or self.run_length + request.length > MOST_MERGED
        ):
            self.end_run()
            self.run_first = request
            self.run_segments = 0
            self.run_length = 0
        else:
            self.run_last.next = request
        request.next = cython.NULL
        self.run_last = request
        self.run_count += 1
        self.run_segments += request.segments
        self.run_length += request.length

    def end_run(self):
        """Do the run as far as it can be done at once; what remains goes to the executor."""
        following: cython.pointer[Request]
        request: cython.pointer[Request] = self.run_first
        done: int64_t
        if self.run_count == 0:
            return
        done = self.attempt()
        if done < 0 and done != -EAGAIN and self.run_count == 1:
            request.result = cython.cast(cython.int, done)
            self.fail(request, S_IOERR)
            request = cython.NULL
        while request != cython.NULL:
            following = request.next
            if done >= cython.cast(int64_t, request.length):
                done -= cython.cast(int64_t, request.length)
                self.finish(request)
            else:
                # Not there yet, or failed in company: then each finds out for itself.
                done = 0
                self.defer(request)
            request = following
        self.run_count = 0
        if self.unseen >= PART:
            self.unseen = 0
            self.publish_part()

    def attempt(self):
        segments: cython.pointer[iovec] = self.run_first.data
        if self.run_count > 1:
            segments = self.join()
        if self.run_first.type == T_IN:
            return self.backend.attempt_read(
                segments, self.run_segments, self.run_first.offset, self.run_length
            )
        return self.backend.attempt_write(segments, self.run_segments, self.run_first.offset, self.run_length)

    def join(self):
        """The segments of all requests of the run, in a row."""
        count: cython.int = 0
        request: cython.pointer[Request] = self.run_first
        while request != cython.NULL:
            memcpy(self.joined + count, request.data, request.segments * cython.sizeof(iovec))
            count += request.segments
            request = request.next
        return self.joined

    def defer(self, request):
        """Have the request done by the kernel or a thread that may wait, or here if nothing waits."""
        if self.backend.immediate:
            perform(self.backend, request)
            self.finish(request)
            return
        self.pending += 1
        self.deferred.put(request)

    def fail(self, request, status):
        request.status = status
        self.finish(request)

    def finish(self, request):
        """Answer, and give the chain back. The used length counts every writable byte: all were written.

        A failed read's buffers are blanked rather than left half filled with what the driver did not ask for.
        """
        chain: cython.pointer[Chain] = request.chain
        last: uint32_t = chain.readable + chain.writable - 1
        if request.trimmed:
            chain.segments[last].iov_len += 1
        if request.result != 0:
            self.complain(request)
        if atomic.load_int(cython.address(self.abandoned), atomic.ACQUIRE) == 0:
            if chain.writable_length > 1 and (not request.trimmed or request.status != S_OK):
                blank(chain)
            request.answer[0] = request.status
            self.unseen += 1 + cython.cast(cython.int, request.length >> 14)
            self.queue.give(chain, cython.cast(uint32_t, chain.writable_length))
        request.next = self.free
        self.free = request

    def complain(self, request):
        """Log a failure of the host's, but not each of a full disk's."""
        time: int64_t = read_clock(CLOCK_MONOTONIC_COARSE) // SECOND
        if request.result == self.complained and time - self.complained_at < QUIET_SECONDS:
            self.unlogged += 1
            return
        self.complained = request.result
        self.complained_at = time
        with cython.gil:
            self.log(request.type, request.offset, request.length, request.result)
        self.unlogged = 0

    def log(self, type, offset, length, result):
        more = f" ({self.unlogged} more like this meanwhile)" if self.unlogged else ""
        where = f" of {length} bytes at {offset}" if type in (T_IN, T_OUT) else ""
        logger.error("%s: %s%s failed: %s%s", self.disk.name, NAMES[type], where, os.strerror(-result), more)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def blank(chain: cython.pointer[Chain]) -> cython.void:
    """Fill the writable part with zeroes, so that nothing stands there that nobody wrote."""
    i: uint32_t
    for i in range(chain.readable, chain.readable + chain.writable):
        memset(chain.segments[i].iov_base, 0, chain.segments[i].iov_len)
