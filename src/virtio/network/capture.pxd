"""Writes frames to a pcapng file; no frame ever waits for the disk."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from virtio.network.filter cimport FilterLink
from virtio.network.frame cimport Frame
from virtio.network.threads cimport pthread_cond_t, pthread_mutex_t

cdef enum:
    NOTE = 160                  # bytes of a comment at the most
    BLOCK = 88 + NOTE           # and of a block without its frame
    BLOCK_TIME = 12             # where a block's two words of time are


cdef struct Passage:
    # A burst that is being handed on. What is recorded of it bears this time.
    int64_t time                # ns since 1970
    Passage *older
    Passage *newer


cdef class Capture:
    cdef readonly object path
    cdef readonly uint32_t snaplen
    cdef object thread
    cdef int fd
    cdef int64_t flush          # ns: longest that a frame stays in memory
    cdef pthread_mutex_t mutex  # guards all that follows
    cdef pthread_cond_t work
    cdef Passage *oldest        # of those under way
    cdef Passage *newest
    cdef char *filling          # blocks by their time
    cdef char *aside            # for blocks that change places
    cdef char *writing          # the writer's own
    cdef uint64_t room          # bytes of each buffer
    cdef uint64_t used          # of the one being filled
    cdef uint64_t recorded      # frames in it
    cdef uint64_t leaving       # frames in the one being written
    cdef bint closing
    cdef int error              # errno of the write that failed; nothing is written after it
    cdef uint64_t frames        # that came
    cdef uint64_t dropped       # of them
    cdef uint64_t told          # drops that the file knows of
    cdef int64_t stored         # bytes of the file, in whole blocks

    # Each burst is begun before it is handed on, and what was taken of it recorded thereafter.
    cdef void begin(self, Passage *passage) noexcept nogil
    cdef void record(
        self, Passage *passage, const Frame *frames, int count, int queue, int direction
    ) noexcept nogil
    cdef void append(self, const Frame *frame, int queue, int direction, int64_t time) noexcept nogil
    cdef void put_in_order(self, uint64_t first, int64_t time) noexcept nogil
    cdef uint64_t start_of_later(self, uint64_t end, int64_t time, uint64_t *frames) noexcept nogil
    cdef uint64_t collect(self) noexcept nogil
    cdef uint64_t swap(self) noexcept nogil
    cdef int store(self, const char *data, uint64_t length) noexcept nogil
    cdef void serve(self) noexcept nogil
    cdef void tell(self) noexcept with gil
    cdef void fail(self, int error) noexcept with gil


cdef class CaptureLink(FilterLink):
    cdef readonly Capture capture
