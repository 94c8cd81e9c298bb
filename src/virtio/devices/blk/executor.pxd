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


cdef class Executor:
    """Serves requests of any number of queues from one line, on as many threads as are needed."""
    cdef Backend backend
    cdef readonly int limit         # of threads
    cdef readonly int threads       # alive
    cdef int idle                   # of them waiting
    cdef readonly object others           # Deferreds with requests of their own on the same backend
    cdef int waiting                # requests in line
    cdef bint closing
    cdef Request *first
    cdef Request *last
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t work

    # Put a request in line; it comes back through its lane. False if no thread can be had to serve it: then
    # the caller has to, by `serve(False)`.
    cdef bint submit(self, Request *request) noexcept nogil
    cdef bint spawn(self) noexcept with gil
    # Do what is in line, until there is nothing or (patient) until there was nothing for long.
    cdef void serve(self, bint patient) noexcept nogil
    cdef Request *next(self, bint patient) noexcept nogil


# Whether a range of a DISCARD or WRITE_ZEROES, from now on in host byte order, can be acted on: a RequestStatus.
cdef uint8_t judge(Range *span, Request *request) noexcept nogil
# Do what the request asks, on the calling thread; sets its `status` and `result`.
cdef void perform(Backend backend, Request *request) noexcept nogil
