"""The threads that do what would make a queue wait: cold reads, flushes, durable writes, direct I/O."""

from __future__ import annotations

import threading
import time
import weakref

import cython
from cython.cimports.libc.errno import EOPNOTSUPP
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.posix.time import CLOCK_REALTIME, clock_gettime, timespec
from cython.cimports.posix.unistd import write
from cython.cimports.virtio.devices.blk.request import (
    MOST_RANGE_SECTORS,
    MOST_RANGES,
    RANGE,
    S_IOERR,
    S_OK,
    S_UNSUPP,
    SECTOR,
    T_DISCARD,
    T_IN,
    T_OUT,
    T_WRITE_ZEROES,
    UNMAP,
    Lane,
    Range,
    Request,
    push,
    swap_u32,
    swap_u64,
)
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.storage.backend import gather


def perform(backend, request):
    if request.type == T_IN:
        request.result = backend.read(request.data, request.segments, request.offset, request.length)
    elif request.type == T_OUT:
        request.result = backend.write(
            request.data, request.segments, request.offset, request.length, request.durable
        )
    elif request.type == T_DISCARD or request.type == T_WRITE_ZEROES:
        request.status = deallocate(backend, request)
        return
    else:
        request.result = backend.flush()
    request.status = S_OK if request.result == 0 else S_IOERR


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def deallocate(backend: Backend, request: cython.pointer[Request]) -> uint8_t:
    """DISCARD and WRITE_ZEROES: all segments are checked, from a copy of them, before any is acted on."""
    ranges: Range[MOST_RANGES]
    count: cython.int = request.length // RANGE
    i: cython.int
    status: uint8_t
    if request.length % RANGE != 0 or count == 0 or count > MOST_RANGES:
        return S_IOERR
    gather(request.data, request.segments, 0, cython.cast(cython.p_char, ranges), request.length)
    for i in range(count):
        status = judge(cython.address(ranges[i]), request)
        if status != S_OK:
            return status
    for i in range(count):
        request.result = act(backend, cython.address(ranges[i]), request.type)
        if request.result != 0:
            return S_IOERR
    if request.durable:
        request.result = backend.flush()
    return S_OK if request.result == 0 else S_IOERR


def judge(span, request):
    known: uint32_t = UNMAP if request.type == T_WRITE_ZEROES else 0
    if request.swap:
        span.sector = swap_u64(span.sector)
        span.sectors = swap_u32(span.sectors)
        span.flags = swap_u32(span.flags)
    if span.flags & ~known:
        return S_UNSUPP
    if span.sectors > MOST_RANGE_SECTORS:
        return S_IOERR
    sectors: uint64_t = request.capacity // SECTOR
    if span.sector > sectors or span.sectors > sectors - span.sector:
        return S_IOERR
    return S_OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def act(backend: Backend, span: cython.pointer[Range], type: uint32_t) -> cython.int:
    offset: uint64_t = span.sector * SECTOR
    length: uint64_t = cython.cast(uint64_t, span.sectors) * SECTOR
    if type == T_WRITE_ZEROES:
        return backend.zero(offset, length, span.flags & UNMAP)
    result: cython.int = backend.discard(offset, length)
    # A discard is advice: where the medium turns out not to take it, nothing is lost.
    return 0 if result == -EOPNOTSUPP else result


class Executor:
    """One device's threads. They come as they are needed, up to ``limit``, and go when they idle."""

    def __cinit__(self) -> None:
        pthread_mutex_init(cython.address(self.mutex), cython.NULL)
        pthread_cond_init(cython.address(self.work), cython.NULL)

    def __init__(self, backend: object, limit: int = 16) -> None:
        self.backend = backend
        self.limit = limit
        self.others = weakref.WeakSet()

    def __dealloc__(self) -> None:
        pthread_cond_destroy(cython.address(self.work))
        pthread_mutex_destroy(cython.address(self.mutex))

    def adopt(self, other: Deferred) -> None:
        """Be busy too while ``other`` has requests in flight."""
        self.others.add(other)

    def close(self, timeout: float = 5.0) -> bool:
        """Have the threads end once the line is empty. False if some still work after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with cython.nogil:
            pthread_mutex_lock(cython.address(self.mutex))
            self.closing = True
            pthread_cond_broadcast(cython.address(self.work))
            pthread_mutex_unlock(cython.address(self.mutex))
        while self._busy() and time.monotonic() < deadline:
            time.sleep(0.001)
        return not self._busy()

    def _busy(self) -> bool:
        return self.threads > 0 or any(other.in_flight > 0 for other in self.others)

    def run(self) -> None:
        """Serve until there is nothing to do for a while; the target of each thread."""
        with cython.nogil:
            self.serve(True)

    def submit(self, request):
        more: cython.bint
        request.next = cython.NULL
        pthread_mutex_lock(cython.address(self.mutex))
        if self.last == cython.NULL:
            self.first = request
        else:
            self.last.next = request
        self.last = request
        self.waiting += 1
        more = self.waiting > self.idle and self.threads < self.limit
        if more:
            self.threads += 1
        else:
            pthread_cond_signal(cython.address(self.work))
        pthread_mutex_unlock(cython.address(self.mutex))
        return self.spawn() if more else True

    def spawn(self):
        # A daemon, so that a disk that hangs does not keep the program from ending.
        try:
            threading.Thread(target=self.run, name="virtio-blk-io", daemon=True).start()
            return True
        except RuntimeError:
            pass  # no thread to be had, or the interpreter is ending
        with cython.nogil:
            pthread_mutex_lock(cython.address(self.mutex))
            self.threads -= 1
            served: cython.bint = self.threads > 0
            pthread_mutex_unlock(cython.address(self.mutex))
        return served

    def serve(self, patient):
        request: cython.pointer[Request]
        one: uint64_t = 1
        while True:
            request = self.next(patient)
            if request == cython.NULL:
                return
            perform(self.backend, request)
            # The request may be gone as soon as it is pushed; its lane is not, while it has visitors.
            lane: cython.pointer[Lane] = request.lane
            atomic.add_int(cython.address(lane.visitors), 1, atomic.SEQ_CST)
            if push(lane, request):
                write(lane.wake_fd, cython.address(one), 8)
            atomic.add_int(cython.address(lane.visitors), -1, atomic.SEQ_CST)

    def next(self, patient):
        """The next request in line, or NULL when there is none; a ``patient`` thread then ends."""
        request: cython.pointer[Request] = cython.NULL
        until = cython.declare(timespec)
        late: cython.int = 0
        pthread_mutex_lock(cython.address(self.mutex))
        while patient and self.first == cython.NULL and not self.closing and late == 0:
            clock_gettime(CLOCK_REALTIME, cython.address(until))
            until.tv_sec += IDLE_SECONDS
            self.idle += 1
            late = pthread_cond_timedwait(
                cython.address(self.work), cython.address(self.mutex), cython.address(until)
            )
            self.idle -= 1
        request = self.first
        if request != cython.NULL:
            self.first = request.next
            if self.first == cython.NULL:
                self.last = cython.NULL
            self.waiting -= 1
        elif patient:
            self.threads -= 1
        pthread_mutex_unlock(cython.address(self.mutex))
        return request
