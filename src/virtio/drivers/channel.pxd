"""A driver's queue with its two bells, and the way to wait for it: spin a little, then sleep."""

from libc.stdint cimport int64_t, uint64_t

from virtio.virtqueue.queue cimport Buffer, DriverQueue

cdef enum:
    CHANNEL_TIMEOUT = 0         # nothing finished in time
    CHANNEL_FINISHED = 1        # there is something to reap
    CHANNEL_WOKEN = 2           # wake_fd is readable
    CHANNEL_INTERRUPTED = 3     # a signal arrived: let Python see to it
    MOST_SEGMENTS = 1024        # in one chain


cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    const short POLLIN


cdef extern from *:
    """
    #define _GNU_SOURCE
    #include <errno.h>
    #include <poll.h>
    #include <stdint.h>
    #include <time.h>
    #include <unistd.h>

    static inline int64_t virtio_monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    static inline int64_t virtio_thread_cpu_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    /* As ppoll, with nanoseconds; below zero waits for ever. Returns -errno on failure. */
    static inline int virtio_poll(struct pollfd *fds, int count, int64_t timeout_ns) {
        struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        int ready = ppoll(fds, count, timeout_ns < 0 ? NULL : &limit, NULL);
        return ready < 0 ? -errno : ready;
    }
    static inline void virtio_ring_bell(int fd) {
        uint64_t one = 1;
        ssize_t ignored = write(fd, &one, sizeof one);
        (void)ignored;      /* EAGAIN: the bell is ringing already */
    }
    static inline void virtio_silence_bell(int fd) {
        uint64_t count;
        ssize_t ignored = read(fd, &count, sizeof count);
        (void)ignored;
    }
    """
    int64_t monotonic_ns "virtio_monotonic_ns"() noexcept nogil
    int64_t thread_cpu_ns "virtio_thread_cpu_ns"() noexcept nogil
    int poll_ns_until "virtio_poll"(pollfd *fds, int count, int64_t timeout_ns) noexcept nogil
    void ring_bell "virtio_ring_bell"(int fd) noexcept nogil
    void silence_bell "virtio_silence_bell"(int fd) noexcept nogil


cdef class Channel:
    cdef readonly DriverQueue queue
    cdef readonly int kick_fd       # we ring the device
    cdef readonly int call_fd       # the device rings us
    cdef readonly int wake_fd       # somebody here rings us; never silenced by us
    cdef int64_t most_poll_ns       # longest spin before sleeping
    cdef int64_t poll_ns            # the spin that pays at present
    cdef readonly uint64_t kicks
    cdef readonly uint64_t sleeps

    # Make what was added visible, and ring if the device wants to hear of it.
    cdef void publish_and_kick(self) noexcept nogil
    # Wait until something finished. `timeout_ns` below zero waits for ever.
    cdef int wait_finished(self, int64_t timeout_ns) noexcept nogil
    cdef int spin(self, int64_t until) noexcept nogil
    cdef int sleep(self, int64_t timeout_ns) noexcept nogil
    cdef void adapt(self, int64_t waited_ns) noexcept nogil
