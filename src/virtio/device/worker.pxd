"""The loop that serves one queue: poll, take, act, publish, notify, sleep."""

from libc.stdint cimport int64_t, uint64_t
from posix.time cimport timespec

from virtio.virtqueue.queue cimport Chain, DeviceQueue

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    short POLLIN
    int ppoll(pollfd *fds, unsigned long count, const timespec *timeout, const void *mask)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef enum:
    BATCH = 64              # chains taken at once
    # Nanoseconds to poll before whatever else wants the same processor, another queue's thread maybe, gets it.
    SELFISH_NS = 2000
    # Nanoseconds to poll while more than half of the requests wait for something else, such as a disk: enough
    # for a driver to follow up what it got, less than the next completion is likely to take.
    PATIENCE_NS = 4000
    SHORTEST_POLL_NS = 10000

cdef enum WorkerState:
    WORKER_RUN = 0
    WORKER_PAUSE = 1        # finish what is in flight, then wait
    WORKER_STOP = 2


cdef int64_t now() noexcept nogil
cdef bint signal_fd(int fd) noexcept nogil
cdef bint clear_fd(int fd) noexcept nogil


cdef class QueueWorker:
    """Serves one DeviceQueue on a thread of its own. A device's engine subclasses it.

    `run` is the thread's target: it enters once, drops the GIL and returns when stopped.
    """
    cdef readonly DeviceQueue queue
    cdef readonly int index         # of the queue in its device
    cdef readonly str name          # of the queue, for people
    cdef object listener            # the Vring: on_fault, on_miss, on_call
    cdef object thread
    cdef object cpus                # to run on; None: any
    cdef int kick_fd                # the driver tells us; -1 when polled or in-band
    cdef bint in_band               # kicks come through kick(); else a missing kick_fd means polling
    cdef int call_fd                # we tell the driver; -1 when it does not want to know
    cdef bint call_listener         # without a call_fd: tell the listener, with the GIL
    cdef int err_fd                 # we tell the front-end that the queue broke; -1 for none
    cdef int wake_fd                # the control thread tells us; also set by completions of other threads
    cdef int completion_fd          # an eventfd of the engine's, as io_uring's; -1 for none
    cdef int source_fd              # readable when `harvest` has something to do; it stays unread here. -1: none
    cdef int settled_fd             # we tell the control thread that `settled` has changed
    cdef int64_t poll_ns            # longest adaptive poll before sleeping; 0 never polls
    cdef int64_t window_ns          # the present one, 0 to poll_ns
    cdef int64_t slept              # nanoseconds of a sleep that is to be judged by what it kept waiting; or 0
    cdef int state                  # WorkerState wanted; atomic
    cdef int settled                # WorkerState reached; atomic
    cdef int halted                 # RingFault that ended serving, until resumed with another queue
    cdef int in_flight              # what harvest last said
    cdef int64_t peak               # chains outstanding when the last were taken
    cdef int abandoned              # the control thread gave up waiting: the ring is no longer ours; atomic
    cdef bint woken                 # in this batch the driver was notified already
    cdef bint owed                  # and wants to be again
    cdef uint64_t requests          # counters, written by the worker alone
    cdef uint64_t batches
    cdef uint64_t notifications
    cdef uint64_t suppressed        # publications that the driver did not want to hear of
    cdef uint64_t sleeps
    cdef uint64_t kicks             # by the driver's fd that ended a sleep
    cdef uint64_t polls             # adaptive polls begun
    cdef uint64_t polls_paid        # those that found something

    # Act on a batch: each chain is given back here (queue.give) or kept and given back in `harvest`.
    cdef void process(self, Chain **chains, int count) noexcept nogil
    # Give back what finished elsewhere meanwhile. Returns how many chains are still in flight.
    cdef int harvest(self) noexcept nogil
    # Called with the GIL after a Request gave its chain back: outside `process`, someone must publish.
    cdef void gave(self)

    cdef void loop(self) noexcept nogil
    cdef int serve(self) noexcept nogil
    cdef void collect(self) noexcept nogil
    cdef void publish(self) noexcept nogil
    # For `process`: let the driver see, and act on, what was given so far while the rest of the batch is done.
    # It is notified at most once more before the end.
    cdef void publish_part(self) noexcept nogil
    cdef void notify(self) noexcept nogil
    cdef void drain(self) noexcept nogil
    cdef bint settle_here(self) noexcept nogil
    cdef void halt(self, int reason) noexcept nogil
    cdef bint spin(self) noexcept nogil
    cdef void sleep(self) noexcept nogil
    cdef void wait(self, bint for_kick) noexcept nogil
    cdef void adapt(self, int64_t slept, int count) noexcept nogil
    cdef void poll_longer(self) noexcept nogil
    cdef void report(self, int reason)
    cdef void call(self)
    cdef void wake(self) noexcept nogil
