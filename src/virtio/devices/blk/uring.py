"""What would make a queue wait, done by io_uring on the queue's own thread.

One ring belongs to one queue's worker: the control thread makes it, disabled; the worker enables it with
its first submission and from then on is the only one to touch it, so there is no lock. A batch of requests
is one system call. Each request is in the ring at most once, and the completion queue has room for all that
the virtqueue can hold and a cancellation: it cannot overflow.

Whatever the kernel does not do is left to the executor's threads, from the beginning: what takes more than
one system call, what `Backend.begin` declines, what cannot be submitted, what moved fewer bytes than asked,
and what failed because of the way it was asked. Their verdict counts. Only a verdict of the storage itself
is never asked for twice, as an fsync tells of an error once.

Why no wake-up is lost
----------------------
An eventfd ends the worker's sleep. From Linux 6.1 on the ring is lazy (DEFER_TASKRUN): a request that ends
is put on the kernel's list for this ring, and becomes a completion only when the worker enters the kernel.
While the worker is awake the eventfd is off. Before it sleeps it calls `arm`:

    worker                                          kernel, for each request that ends
    W1  eventfd on                                  K1  put it on the list (an atomic exchange)
    W2  full fence                                  K2  if the list was empty: is the eventfd on? signal it
    W3  enter the kernel: empty the list
    W4  any completion? then do not sleep
    W5  is there still a list? then do not sleep

K1 and W2 are full barriers, so either W3 sees what K1 put there, and W4 the completion; or K2 sees the
eventfd on. If the list was not empty at K1, whoever put the first there either signals, or did so before W3,
which empties the list of both.

But from Linux 6.13 on W3 looks at twenty of the list and leaves the rest, without a signal for those that
join it. If none of the twenty is done (a page that a read waited for came, and was taken away again), there
is no completion, and W5 is needed. What is left sets a flag, IORING_SQ_TASKRUN; without it there is no list.
The flag alone decides nothing: the kernel also sets it after K1, perhaps after W3, and then leaves it set
until there is work again. So where it is set, W5 asks poll, which knows. A look at the ring while polling
goes by the flag, and costs a system call in vain where it is stale.

Older kernels make the completion at once, from any thread. The eventfd then stays on for good: a signal
follows every completion, and `arm` looks for those whose signal it has consumed already.
(Polling the ring's own file descriptor does not do: when lazy, it wakes no one.)
"""

from __future__ import annotations

import os

import cython
from cython.cimports.libc.errno import EAGAIN, EINTR, EINVAL, ENOMEM, ENOTTY, EOPNOTSUPP
from cython.cimports.libc.stdint import uint64_t, uintptr_t
from cython.cimports.libc.string import memset
from cython.cimports.posix.unistd import close
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
    DURABLE_WRITE,
    FLUSH,
    READ,
    WRITE,
    ZERO,
    Operation,
    gather,
)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def operation_of(request: cython.pointer[Request]) -> Operation:
    """What the request means to a storage."""
    if request.type == T_IN:
        return READ
    if request.type == T_OUT:
        return DURABLE_WRITE if request.durable else WRITE
    if request.type == T_DISCARD:
        return DISCARD
    return ZERO if request.type == T_WRITE_ZEROES else FLUSH


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def undone(request: cython.pointer[Request], result: cython.int) -> cython.bint:
    """Whether the result says nothing of the storage, so that a thread has to do the request."""
    if result >= 0:
        moves: cython.bint = request.type == T_IN or request.type == T_OUT
        return moves and cython.cast(uint64_t, result) != request.length
    # ECANCELED: the kernel had no thread for it.
    return result in (-EAGAIN, -EINTR, -ECANCELED, -ENOMEM, -EINVAL, -ENOTTY, -EOPNOTSUPP)


class UringDeferred:
    """The ring of one queue of up to ``size`` requests. OSError if the kernel makes none.

    Without ``lazy`` it is one as kernels before 6.1 have it.
    """

    def __init__(self, executor: Executor, size: int, *, lazy: bool = True) -> None:
        Deferred.__init__(self, executor)
        code: cython.int = -EINVAL
        if lazy:
            code = self._open(
                size, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG
            )
            self.lazy = code == 0
        if code == -EINVAL:
            code = self._open(size, 0)
        _check(code)
        self.made = True
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        _check(io_uring_register_eventfd(cython.address(self.ring), self.fd))
        if self.lazy:
            io_uring_cq_eventfd_toggle(cython.address(self.ring), False)
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

    # Into the kernel.

    def start(self, request):
        operation: Operation = operation_of(request)
        entry: cython.pointer[Entry]
        fd: cython.int
        request.span.offset = request.offset
        request.span.length = request.length
        if operation in (DISCARD, ZERO) and not self.range_of(request):
            return False
        fd = self.backend.begin(
            operation, request.data, request.segments, request.span.offset, request.span.length
        )
        if fd < 0:
            return False
        if self.in_flight == 0:
            atomic.store_int(cython.address(self.cancelled), 0, atomic.RELAXED)  # that was about others
        self.in_flight += 1
        entry = io_uring_get_sqe(cython.address(self.ring))
        if entry == cython.NULL:
            self.release(request)
            return False
        self.prepare(entry, fd, request)
        self.queued = True
        return True

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
        """Tell the kernel of what was started. Threads get what it does not take."""
        taken: cython.int = 0
        self.queued = False
        if not self.enabled:
            self.enabled = (
                io_uring_register(self.ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, cython.NULL, 0) == 0
            )
        while self.enabled and io_uring_sq_ready(cython.address(self.ring)) > 0:
            taken = io_uring_submit_and_get_events(cython.address(self.ring))
            if taken <= 0 and taken != -EINTR:
                break
        if io_uring_sq_ready(cython.address(self.ring)) > 0:
            self.withdraw()

    def withdraw(self):
        """Take back from the submission queue what the kernel has not read, which it does only when asked."""
        request: cython.pointer[Request]
        head: cython.uint = self.ring.sq.khead[0]
        tail: cython.uint = self.ring.sq.sqe_tail
        self.ring.sq.sqe_head = self.ring.sq.sqe_tail = self.ring.sq.ktail[0] = head
        while head != tail:
            request = cython.cast(
                cython.pointer[Request],
                cython.cast(uintptr_t, self.ring.sq.sqes[head & (ENTRIES - 1)].user_data),
            )
            head += 1
            if request != cython.NULL:
                self.release(request)
                self.hand_over(request)

    # Out of the kernel.

    def arm(self):
        if self.in_flight == 0:
            return True
        if self.lazy:
            io_uring_cq_eventfd_toggle(cython.address(self.ring), True)
            atomic.fence(atomic.SEQ_CST)
            io_uring_get_events(cython.address(self.ring))
            if self.left_over():
                return False
        return io_uring_cq_ready(cython.address(self.ring)) == 0

    def left_over(self):
        """Whether the kernel has more to do for a lazy ring as soon as we enter it."""
        slot = cython.declare(pollfd)
        if self.ring.sq.kflags[0] & IORING_SQ_TASKRUN == 0:
            return False
        slot.fd = self.ring.ring_fd
        slot.events = POLLIN
        return poll(cython.address(slot), 1, 0) != 0

    def finished(self):
        first: cython.pointer[Request] = cython.NULL
        last: cython.pointer[cython.pointer[Request]] = cython.address(first)
        if self.in_flight > 0:
            if self.lazy:
                io_uring_cq_eventfd_toggle(cython.address(self.ring), False)
            if atomic.load_int(cython.address(self.cancelled), atomic.RELAXED) == 1:
                self.give_up()
            last = self.reap(last)
        last[0] = Deferred.finished(self)
        return first

    def reap(self, last):
        """Put the finished behind ``last``, a place for the next. The place behind them."""
        completions = cython.declare(cython.pointer[Completion][REAPED])
        request: cython.pointer[Request]
        i: cython.uint
        while True:
            # Enters the kernel if there are none, but a flag says that this would bring some.
            count: cython.uint = io_uring_peek_batch_cqe(cython.address(self.ring), completions, REAPED)
            if count == 0:
                return last
            for i in range(count):
                request = cython.cast(cython.pointer[Request], io_uring_cqe_get_data(completions[i]))
                if request != cython.NULL and self.settle(request, completions[i].res):
                    last[0] = request
                    last = cython.address(request.next)
            io_uring_cq_advance(cython.address(self.ring), count)

    def settle(self, request, result):
        """Judge a completion. False if a thread has to do the request."""
        self.release(request)
        if undone(request, result):
            if atomic.load_int(cython.address(self.cancelled), atomic.RELAXED) == 0:
                self.hand_over(request)
                return False
            request.status = S_IOERR  # given up on purpose, so without a word in the log
            return True
        request.result = result if result < 0 else 0
        request.status = S_OK if request.result == 0 else S_IOERR
        return True

    def release(self, request):
        """The kernel no longer has the request."""
        self.backend.end(operation_of(request), request.span.offset, request.span.length)
        self.in_flight -= 1

    def give_up(self):
        """Ask the kernel, once, to end what has not begun."""
        entry: cython.pointer[Entry] = io_uring_get_sqe(cython.address(self.ring))
        if entry == cython.NULL:
            return
        io_uring_prep_cancel(entry, cython.NULL, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)
        io_uring_sqe_set_data(entry, cython.NULL)
        atomic.store_int(cython.address(self.cancelled), 2, atomic.RELAXED)
        self.submit()


def _check(code: int) -> None:
    if code < 0:
        raise OSError(-code, os.strerror(-code))
