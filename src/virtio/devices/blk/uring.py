"""What would make a queue wait, done by io_uring on the queue's own thread.

One ring belongs to one queue's worker: the control thread makes it, disabled; the worker enables it with
its first submission and from then on is the only one to touch it, so there is no lock. A batch of requests
is one system call. Completions are seen in shared memory; where the kernel defers its work to us, a flag
there says that entering it would bring some. An eventfd ends the worker's sleep; the kernel is asked not to
signal it while the worker is looking anyway. (Polling the ring itself does not do: with deferred work it
becomes readable, but wakes no one.)

Each request is in the ring at most once, and the completion queue has room for all that the virtqueue can
hold: it cannot overflow.

What takes more than one system call (parts of blocks, several ranges, a durable discard) is left to the
executor's threads, and so is what the kernel turns down (EAGAIN, EINVAL, EOPNOTSUPP): they find out why, or
another way.
"""

from __future__ import annotations

import os

import cython
from cython.cimports.libc.errno import EAGAIN, EINTR, EINVAL, EIO, ENOTTY, EOPNOTSUPP
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.posix.uio import iovec
from cython.cimports.posix.unistd import close, write
from cython.cimports.virtio.devices.blk.executor import judge
from cython.cimports.virtio.devices.blk.request import (
    RANGE,
    S_IOERR,
    S_OK,
    SECTOR,
    T_DISCARD,
    T_IN,
    T_OUT,
    T_WRITE_ZEROES,
    UNMAP,
    Range,
    Request,
)
from cython.cimports.virtio.memory import atomic
from cython.cimports.virtio.storage import linux
from cython.cimports.virtio.storage.backend import (
    DISCARD,
    FLUSH,
    READ,
    WRITE,
    ZERO,
    Operation,
    gather,
    window,
)

MOST_IN_FLIGHT = 32768  # the kernel's bound on entries


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def operation_of(request: cython.pointer[Request]) -> Operation:
    """What the request means to a storage."""
    if request.type == T_IN:
        return READ
    if request.type == T_OUT:
        return WRITE
    if request.type == T_DISCARD:
        return DISCARD
    return ZERO if request.type == T_WRITE_ZEROES else FLUSH


class UringRing:
    """The ring of one queue of up to ``size`` requests. OSError if the kernel makes none."""

    def __init__(self, executor: Executor, size: int) -> None:
        self.executor = executor
        self.backend = executor.backend
        modern: cython.uint = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
        cooperative: cython.uint = IORING_SETUP_COOP_TASKRUN
        code: cython.int = -EINVAL
        if size > MOST_IN_FLIGHT:
            raise OSError(EINVAL, f"a ring holds {MOST_IN_FLIGHT} requests, not {size}")
        # The best that this kernel has: Linux 6.1, 5.19, 5.11.
        for flags in (modern | IORING_SETUP_TASKRUN_FLAG, cooperative | IORING_SETUP_TASKRUN_FLAG, 0):
            code = self._open(size, flags)
            if code != -EINVAL:
                self.deferred = flags & IORING_SETUP_DEFER_TASKRUN != 0
                break
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        self.made = True
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        code = io_uring_register_eventfd(cython.address(self.ring), self.fd)
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        executor.adopt(self)

    def _open(self, size: cython.int, flags: cython.uint) -> cython.int:
        params = cython.declare(Params)
        needed: cython.uint = IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_NODROP
        memset(cython.address(params), 0, cython.sizeof(Params))
        params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED
        params.cq_entries = max(2 * size, 2 * ENTRIES)  # the double leaves room for a cancellation
        code: cython.int = io_uring_queue_init_params(
            ENTRIES, cython.address(self.ring), cython.address(params)
        )
        if code == 0 and params.features & needed != needed:
            io_uring_queue_exit(cython.address(self.ring))
            return -EOPNOTSUPP
        return code

    def __dealloc__(self) -> None:
        if self.made:
            io_uring_queue_exit(cython.address(self.ring))
        if self.fd >= 0:
            close(self.fd)

    def start(self, request):
        operation: Operation = operation_of(request)
        entry: cython.pointer[Entry]
        fd: cython.int
        if self.in_flight == 0:
            atomic.store_int(cython.address(self.cancelled), 0, atomic.RELAXED)  # that was about others
        request.span.offset = request.offset
        request.span.length = request.length
        if operation in (DISCARD, ZERO) and not self.range_of(request):
            return False
        fd = self.backend.begin(
            operation, request.data, request.segments, request.span.offset, request.span.length
        )
        if fd < 0:
            return False
        entry = self.entry()
        if entry == cython.NULL:
            self.backend.end(operation, request.span.offset, request.span.length)
            return False
        request.span.fd = fd
        request.span.done = 0
        self.prepare(entry, fd, request)
        self.in_flight += 1
        return True

    def entry(self):
        """A free place to submit from; NULL if the kernel takes none of those that are full."""
        entry: cython.pointer[Entry] = io_uring_get_sqe(cython.address(self.ring))
        if entry == cython.NULL:
            self.submit()
            entry = io_uring_get_sqe(cython.address(self.ring))
        if entry != cython.NULL:
            self.queued = True
        return entry

    def range_of(self, request):
        """Find the one range of a DISCARD or WRITE_ZEROES. False if there are more, or it is refused."""
        found = cython.declare(Range)
        if request.length != RANGE or request.durable:
            return False
        gather(request.data, request.segments, 0, cython.cast(cython.p_char, cython.address(found)), RANGE)
        if judge(cython.address(found), request) != S_OK or found.sectors == 0:
            return False
        request.span.offset = found.sector * SECTOR
        request.span.length = cython.cast(uint64_t, found.sectors) * SECTOR
        request.span.unmap = found.flags & UNMAP != 0
        return True

    def prepare(self, entry, fd, request):
        mode: cython.int = linux.FALLOC_FL_KEEP_SIZE
        if request.type == T_IN:
            io_uring_prep_readv(entry, fd, request.data, request.segments, request.offset)
        elif request.type == T_OUT:
            io_uring_prep_writev2(
                entry, fd, request.data, request.segments, request.offset,
                linux.RWF_DSYNC if request.durable else 0,
            )  # fmt: skip
        elif request.type == T_DISCARD or request.type == T_WRITE_ZEROES:
            if request.type == T_DISCARD or request.span.unmap:
                mode |= linux.FALLOC_FL_PUNCH_HOLE
            else:
                mode |= linux.FALLOC_FL_ZERO_RANGE
            io_uring_prep_fallocate(entry, fd, mode, request.span.offset, request.span.length)
        else:
            io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC)
        io_uring_sqe_set_data(entry, request)

    def submit(self):
        """Tell the kernel of what was started. What it cannot take for now is offered again by `finished`."""
        taken: cython.int
        one: uint64_t = 1
        if not self.enabled:
            self.enabled = (
                io_uring_register(self.ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, cython.NULL, 0) == 0
            )
        io_uring_cq_eventfd_toggle(cython.address(self.ring), False)
        while io_uring_sq_ready(cython.address(self.ring)) > 0:
            if self.deferred:
                taken = io_uring_submit_and_get_events(cython.address(self.ring))
            else:
                taken = io_uring_submit(cython.address(self.ring))
            if taken <= 0 and taken != -EINTR:
                # No memory for it. Come again soon, whatever else happens.
                write(self.wake_fd, cython.address(one), 8)
                return
        self.queued = False

    def finished(self):
        first: cython.pointer[Request] = cython.NULL
        last: cython.pointer[cython.pointer[Request]] = cython.address(first)
        if atomic.load_int(cython.address(self.cancelled), atomic.RELAXED) == 1:
            self.give_up()
        while True:
            io_uring_cq_eventfd_toggle(cython.address(self.ring), False)
            last = self.reap(last)
            if self.queued:
                self.submit()
            io_uring_cq_eventfd_toggle(cython.address(self.ring), True)
            # What came before the kernel saw that would signal nothing.
            atomic.fence(atomic.SEQ_CST)
            if not self.more():
                break
        last[0] = cython.NULL
        return first

    def more(self):
        """Whether there are completions, or work that brings some. Touches only shared memory."""
        flags: cython.uint = atomic.load_u32(self.ring.sq.kflags, atomic.RELAXED)
        return flags & IORING_SQ_TASKRUN != 0 or io_uring_cq_ready(cython.address(self.ring)) > 0

    def reap(self, last):
        """Put the finished behind ``last``, a place for the next. The place behind them.

        The kernel sets the flag after it has queued the work, so perhaps after that was done, and does not
        clear it when it then finds none: it is cleared here, before the work is done.
        """
        completions = cython.declare(cython.pointer[Completion][REAPED])
        request: cython.pointer[Request]
        i: cython.uint
        if atomic.load_u32(self.ring.sq.kflags, atomic.RELAXED) & IORING_SQ_TASKRUN:
            clear_bits(self.ring.sq.kflags, ~IORING_SQ_TASKRUN, atomic.SEQ_CST)
            io_uring_get_events(cython.address(self.ring))
        count: cython.uint = io_uring_peek_batch_cqe(cython.address(self.ring), completions, REAPED)
        for i in range(count):
            request = cython.cast(cython.pointer[Request], io_uring_cqe_get_data(completions[i]))
            if request != cython.NULL and self.settle(request, completions[i].res):
                last[0] = request
                last = cython.address(request.next)
        io_uring_cq_advance(cython.address(self.ring), count)
        return last

    def settle(self, request, result):
        """Judge a completion. False if the request goes on: here with what remains, or with a thread."""
        moves: cython.bint = request.type == T_IN or request.type == T_OUT
        stopped: cython.bint = atomic.load_int(cython.address(self.cancelled), atomic.RELAXED) != 0
        if moves and result > 0:
            request.span.done += result
            if request.span.done < request.length and not stopped:
                if self.proceed(request):
                    return False
                result = -EAGAIN
        self.in_flight -= 1
        self.backend.end(operation_of(request), request.span.offset, request.span.length)
        # EAGAIN and EINTR were no failures; the others may be of the way it was asked.
        if result in (-EAGAIN, -EINTR, -EINVAL, -ENOTTY, -EOPNOTSUPP) and not stopped:
            self.executor.submit(request)
            return False
        request.result = result if result < 0 else 0
        if moves and result >= 0 and request.span.done < request.length:
            request.result = -EIO  # the file ended early: someone else truncated it
        if request.type == T_DISCARD and result == -EOPNOTSUPP:
            request.result = 0
        request.status = S_OK if request.result == 0 else S_IOERR
        return True

    def proceed(self, request):
        """Go on after a short transfer. The kernel has read the segments when `submit` returns."""
        parts = cython.declare(iovec[PARTS])
        done: uint64_t = request.span.done
        count: cython.int = window(request.data, request.segments, done, parts, PARTS)
        entry: cython.pointer[Entry] = self.entry()
        if entry == cython.NULL:
            return False
        if request.type == T_IN:
            io_uring_prep_readv(entry, request.span.fd, parts, count, request.offset + done)
        else:
            io_uring_prep_writev2(
                entry, request.span.fd, parts, count, request.offset + done,
                linux.RWF_DSYNC if request.durable else 0,
            )  # fmt: skip
        io_uring_sqe_set_data(entry, request)
        self.submit()
        return True

    def give_up(self):
        """Ask the kernel, once, to end what has not begun."""
        entry: cython.pointer[Entry] = self.entry()
        if entry == cython.NULL:
            return
        io_uring_prep_cancel(entry, cython.NULL, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)
        io_uring_sqe_set_data(entry, cython.NULL)
        atomic.store_int(cython.address(self.cancelled), 2, atomic.RELAXED)
        self.submit()
