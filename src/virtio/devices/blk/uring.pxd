"""io_uring for one request queue. Built only where liburing is found."""

cimport cython
from libc.stdint cimport int64_t, uint64_t
from posix.uio cimport iovec

from virtio.devices.blk.deferred cimport Deferred
from virtio.devices.blk.request cimport Request

cdef extern from "<errno.h>" nogil:
    const int ECANCELED

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
    const short POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout)

cdef extern from "<liburing.h>" nogil:
    ctypedef struct Params "struct io_uring_params":
        unsigned cq_entries
        unsigned flags
        unsigned features
    ctypedef struct Entry "struct io_uring_sqe":
        uint64_t user_data
    ctypedef struct Completion "struct io_uring_cqe":
        int res
    ctypedef struct SubmissionQueue "struct io_uring_sq":
        unsigned *khead             # the first that the kernel has not read
        unsigned *ktail
        unsigned *kflags            # what the kernel wants us to know
        Entry *sqes
        unsigned sqe_head           # the first that the kernel was not told of
        unsigned sqe_tail           # behind the last that was filled
    ctypedef struct Uring "struct io_uring":
        SubmissionQueue sq
        int ring_fd
    int io_uring_queue_init_params(unsigned entries, Uring *ring, Params *params)
    void io_uring_queue_exit(Uring *ring)
    # liburing 2.3 forgets to export io_uring_enable_rings.
    int io_uring_register(unsigned fd, unsigned code, const void *argument, unsigned count)
    const unsigned IORING_REGISTER_ENABLE_RINGS
    int io_uring_register_eventfd(Uring *ring, int fd)
    int io_uring_cq_eventfd_toggle(Uring *ring, bint enabled)
    Entry *io_uring_get_sqe(Uring *ring)
    unsigned io_uring_sq_ready(const Uring *ring)
    int io_uring_submit_and_get_events(Uring *ring)
    int io_uring_get_events(Uring *ring)
    unsigned io_uring_cq_ready(const Uring *ring)
    unsigned io_uring_peek_batch_cqe(Uring *ring, Completion **completions, unsigned count)
    void io_uring_cq_advance(Uring *ring, unsigned count)
    void *io_uring_cqe_get_data(const Completion *completion)
    void io_uring_sqe_set_data(Entry *entry, void *data)
    void io_uring_prep_readv(Entry *entry, int fd, const iovec *segments, unsigned count, uint64_t offset)
    void io_uring_prep_writev2(Entry *entry, int fd, const iovec *segments, unsigned count, uint64_t offset,
                               int flags)
    void io_uring_prep_fsync(Entry *entry, int fd, unsigned flags)
    void io_uring_prep_fallocate(Entry *entry, int fd, int mode, int64_t offset, int64_t length)
    void io_uring_prep_cancel(Entry *entry, void *data, int flags)
    const unsigned IORING_SETUP_CQSIZE
    const unsigned IORING_SETUP_R_DISABLED
    const unsigned IORING_SETUP_TASKRUN_FLAG
    const unsigned IORING_SETUP_SINGLE_ISSUER
    const unsigned IORING_SETUP_DEFER_TASKRUN
    const unsigned IORING_FEAT_SUBMIT_STABLE
    const unsigned IORING_FEAT_NODROP
    const unsigned IORING_SQ_TASKRUN
    const unsigned IORING_FSYNC_DATASYNC
    const int IORING_ASYNC_CANCEL_ALL
    const int IORING_ASYNC_CANCEL_ANY

cdef enum:
    ENTRIES = 128           # submitted at once, a power of two: more than the worker takes at once
    REAPED = 64             # completions looked at together


@cython.final
cdef class UringDeferred(Deferred):
    cdef Uring ring
    cdef bint made
    cdef bint enabled
    cdef bint lazy                  # completions are worked out only when we enter the kernel

    cdef bint range_of(self, Request *request) noexcept nogil
    cdef void prepare(self, Entry *entry, int fd, Request *request) noexcept nogil
    cdef bint left_over(self) noexcept nogil
    cdef void withdraw(self) noexcept nogil
    cdef Request **reap(self, Request **last) noexcept nogil
    cdef bint settle(self, Request *request, int result) noexcept nogil
    cdef void release(self, Request *request) noexcept nogil
    cdef void give_up(self) noexcept nogil
