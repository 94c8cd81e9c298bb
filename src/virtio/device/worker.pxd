"""The loop that serves one queue: poll, take, act, publish, notify, sleep."""

from libc.stdint cimport int64_t, uint64_t

from virtio.virtqueue.queue cimport Chain, DeviceQueue

cdef enum:
    BATCH = 64              # chains taken at once

cdef enum WorkerState:
    WORKER_RUN = 0
    WORKER_PAUSE = 1        # finish what is in flight, then wait
    WORKER_STOP = 2


cdef class QueueWorker:
    """Serves one DeviceQueue on a thread of its own. A device's engine subclasses it.

    `run` is the thread's target: it enters once, drops the GIL and returns when stopped.
    """
    cdef readonly DeviceQueue queue
    cdef int kick_fd            # the driver tells us; -1 when polled or in-band
    cdef int call_fd            # we tell the driver; -1 when it does not want to know
    cdef int wake_fd            # the control thread tells us; also set by completions of other threads
    cdef int64_t poll_ns        # longest adaptive poll before sleeping; 0 never polls
    cdef int state              # WorkerState wanted; atomic
    cdef int settled            # WorkerState reached; atomic
    cdef uint64_t requests      # counters, written by the worker alone
    cdef uint64_t batches
    cdef uint64_t notifications
    cdef uint64_t sleeps

    # Act on a batch: each chain is given back here (queue.give) or kept and given back in `harvest`.
    cdef void process(self, Chain **chains, int count) noexcept nogil
    # Give back what finished elsewhere meanwhile. Returns how many chains are still in flight.
    cdef int harvest(self) noexcept nogil
