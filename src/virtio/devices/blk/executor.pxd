"""The threads that do what would make a queue wait."""

from libc.stdint cimport uint8_t, uint64_t
from posix.time cimport timespec

from virtio.devices.blk.request cimport Range, Request
from virtio.storage.backend cimport Backend

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *cond, void *attributes)
    int pthread_cond_signal(pthread_cond_t *cond)
    int pthread_cond_broadcast(pthread_cond_t *cond)
    int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const timespec *until)
    int pthread_cond_destroy(pthread_cond_t *cond)

cdef enum:
    IDLE_SECONDS = 10       # a thread without work ends after so long


cdef class Ring:
    """Asynchronous system calls for one queue, made and reaped on its worker's own thread. This one makes none."""
    cdef object __weakref__
    cdef readonly int fd            # readable when `finished` has something; -1 for never
    cdef readonly int in_flight     # requests
    cdef int wake_fd                # of the queue, for what must be tried again
    cdef bint queued                # something was started since the last `submit`
    cdef bint enabled
    cdef int cancelled              # 1: end what can be ended; 2: told the kernel so; atomic

    # Begin a request, to be told of by `submit`. False if it is none for a ring.
    cdef bint start(self, Request *request) noexcept nogil
    cdef void submit(self) noexcept nogil
    # Those that are done, status and result set, in a list by `next`. Called while any are in flight.
    cdef Request *finished(self) noexcept nogil


cdef class Executor:
    """Serves requests of any number of queues from one line, on as many threads as are needed."""
    cdef Backend backend
    cdef readonly int limit         # of threads
    cdef readonly int threads       # alive
    cdef int idle                   # of them waiting
    cdef readonly object rings      # UringRings that use the backend
    cdef int waiting                # requests in line
    cdef bint closing
    cdef Request *first
    cdef Request *last
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t work

    # Put a request in line; it comes back through its lane.
    cdef void submit(self, Request *request) noexcept nogil
    cdef void spawn(self) noexcept with gil
    cdef void serve(self, bint patient) noexcept nogil
    cdef Request *next(self, bint patient) noexcept nogil


# Whether a range of a DISCARD or WRITE_ZEROES, from now on in host byte order, can be acted on: a RequestStatus.
cdef uint8_t judge(Range *span, Request *request) noexcept nogil
# Do what the request asks, on the calling thread; sets its `status` and `result`.
cdef void perform(Backend backend, Request *request) noexcept nogil
