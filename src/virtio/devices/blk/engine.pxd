"""The block device's data path: one engine serves one request queue."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.device.worker cimport QueueWorker
from virtio.devices.blk.deferred cimport Deferred
from virtio.devices.blk.disk cimport Disk
from virtio.devices.blk.executor cimport Executor
from virtio.devices.blk.request cimport Lane, Request
from virtio.storage.backend cimport Backend
from virtio.virtqueue.queue cimport Chain, DeviceQueue

cdef enum:
    MOST_MERGED = 1 << 18   # bytes; a longer call saves nothing more, and keeps the driver waiting
    PART = 16               # requests, or 16 KiB each, that are published before the rest of a batch is done
    AHEAD = 3               # requests to look ahead of the one that is done
    QUIET_SECONDS = 10      # between two log lines about the same trouble


@cython.final
cdef class BlkEngine(QueueWorker):
    cdef Disk disk
    cdef Backend backend
    cdef Deferred deferred          # requests that would wait
    cdef bint always_durable        # the driver negotiated no way to flush
    cdef bint discards              # negotiated
    cdef bint zeroes
    cdef bint swap                  # a legacy driver of the other byte order
    cdef Lane lane
    cdef int pending                # requests that are deferred
    cdef Request *slots             # as many as the queue has descriptors
    cdef Request *free
    # The run: reads, or writes, of consecutive sectors that become one system call.
    cdef Request *run_first
    cdef Request *run_last
    cdef int run_count
    cdef int run_segments
    cdef uint64_t run_length
    cdef iovec *joined              # IOV_MAX of them, for a run of more than one request
    cdef int unseen                 # what was given since the driver was last told, in the units of PART
    cdef int complained             # the errno last logged
    cdef int64_t complained_at      # seconds, monotonic
    cdef uint64_t unlogged          # failures since

    cdef Request *begin(self, Chain *chain) noexcept nogil
    cdef bint parse(self, Request *request) noexcept nogil
    cdef void act(self, Request *request) noexcept nogil
    cdef void transfer(self, Request *request) noexcept nogil
    cdef void identify(self, Request *request) noexcept nogil
    cdef void extend_run(self, Request *request) noexcept nogil
    cdef void end_run(self) noexcept nogil
    cdef int64_t attempt(self) noexcept nogil
    cdef iovec *join(self) noexcept nogil
    cdef void defer(self, Request *request) noexcept nogil
    cdef void fail(self, Request *request, uint8_t status) noexcept nogil
    cdef void finish(self, Request *request) noexcept nogil
    cdef void complain(self, Request *request) noexcept nogil
    cdef void log(self, uint32_t type, uint64_t offset, uint64_t length, int result)
