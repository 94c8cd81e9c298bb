"""One queue's requests that would wait: with whom they are until they are done."""

from virtio.devices.blk.executor cimport Executor
from virtio.devices.blk.request cimport Lane, Request
from virtio.storage.backend cimport Backend


cdef class Deferred:
    """The requests of one queue that would wait. All is called on its worker's own thread, but for `cancel`.

    This one leaves them to the executor's threads. A subclass that knows another way for some overrides
    `start`, `submit`, `finished` and `arm`.
    """
    cdef object __weakref__
    cdef Executor executor
    cdef Backend backend
    cdef Lane *lane                 # where threads leave what they finished; the engine's
    cdef readonly int fd            # readable when `finished` has something, once armed; -1 for never
    cdef readonly int in_flight     # requests that are with no thread
    cdef bint queued                # something was started since the last `submit`
    cdef bint stranded              # there is no thread to serve the executor's line
    cdef int cancelled              # 1: end what can be ended; 2: that was asked for; atomic

    # Begin a request, wherever it can be done. `submit` must follow if that sets `queued`.
    cdef void put(self, Request *request) noexcept nogil
    # Begin a request without a thread. False if it is none for that.
    cdef bint start(self, Request *request) noexcept nogil
    cdef void submit(self) noexcept nogil
    # Let a thread do the request.
    cdef void hand_over(self, Request *request) noexcept nogil
    # Those that are done, status and result set, in a list by `next`.
    cdef Request *finished(self) noexcept nogil
    # Have `fd` signalled from now on. False if there is something already, so that nobody may sleep.
    cdef bint arm(self) noexcept nogil
    # Any thread: give up what can be given up.
    cdef void cancel(self) noexcept nogil
