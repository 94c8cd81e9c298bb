"""Locks and conditions of POSIX threads, for code that runs without the GIL."""

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, timespec

from virtio.memory.clock cimport SECOND

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_condattr_init(pthread_condattr_t *attributes)
    int pthread_condattr_setclock(pthread_condattr_t *attributes, int clock)
    int pthread_condattr_destroy(pthread_condattr_t *attributes)
    int pthread_cond_init(pthread_cond_t *cond, pthread_condattr_t *attributes)
    int pthread_cond_signal(pthread_cond_t *cond)
    int pthread_cond_broadcast(pthread_cond_t *cond)
    int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
    int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const timespec *until)
    int pthread_cond_destroy(pthread_cond_t *cond)


# A condition whose timed waits end by the monotonic clock, which nobody sets.
cdef inline void make_condition(pthread_cond_t *cond) noexcept nogil:
    cdef pthread_condattr_t attributes
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(cond, &attributes)
    pthread_condattr_destroy(&attributes)


# Wait for a signal until the monotonic clock shows `until`; not 0 when that is past.
cdef inline int wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until) noexcept nogil:
    cdef timespec end
    end.tv_sec = until // SECOND
    end.tv_nsec = until % SECOND
    return pthread_cond_timedwait(cond, mutex, &end)
