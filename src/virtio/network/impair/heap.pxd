"""Frames that wait, with their bytes, the earliest due on top."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport malloc, realloc
from posix.uio cimport iovec

from virtio.network.copies cimport copy_out
from virtio.network.frame cimport Frame


cdef struct Held:           # its bytes follow it; free() ends it
    int64_t due             # ns
    uint64_t order          # breaks ties: first come, first served
    int queue
    iovec segment
    Frame frame


cdef struct Heap:           # all zero to begin with; free(places) ends it
    Held **places
    int count
    int room                # places
    uint64_t bytes          # of frames
    uint64_t order          # of the next one


# A copy of a frame. NULL: no memory.
cdef inline Held *keep(int queue, const Frame *frame) noexcept nogil:
    cdef Held *held = <Held *> malloc(sizeof(Held) + frame.length)
    if held == NULL:
        return NULL
    held.segment.iov_base = <char *> held + sizeof(Held)
    held.segment.iov_len = frame.length
    copy_out(frame, <char *> held.segment.iov_base, frame.length)
    held.queue = queue
    held.frame.segments = &held.segment
    held.frame.count = 1
    held.frame.length = frame.length
    held.frame.header = frame.header
    return held


# See that one more has a place. False: no memory.
cdef inline bint make_room(Heap *heap) noexcept nogil:
    cdef int room = heap.room * 2 + 64
    cdef Held **places
    if heap.count < heap.room:
        return True
    places = <Held **> realloc(heap.places, room * sizeof(Held *))
    if places == NULL:
        return False
    heap.places = places
    heap.room = room
    return True


cdef inline bint earlier(const Held *one, const Held *other) noexcept nogil:
    return one.due < other.due or (one.due == other.due and one.order < other.order)


# Needs room.
cdef inline void push(Heap *heap, Held *held) noexcept nogil:
    cdef int place = heap.count
    cdef int above
    held.order = heap.order
    heap.order += 1
    heap.count += 1
    heap.bytes += held.frame.length
    while place > 0:
        above = (place - 1) // 2
        if not earlier(held, heap.places[above]):
            break
        heap.places[place] = heap.places[above]
        place = above
    heap.places[place] = held


# The earliest; there must be one.
cdef inline Held *pop(Heap *heap) noexcept nogil:
    cdef Held *first = heap.places[0]
    cdef Held *last
    cdef int place = 0
    cdef int below
    heap.count -= 1
    heap.bytes -= first.frame.length
    last = heap.places[heap.count]
    while True:
        below = 2 * place + 1
        if below >= heap.count:
            break
        if below + 1 < heap.count and earlier(heap.places[below + 1], heap.places[below]):
            below += 1
        if not earlier(heap.places[below], last):
            break
        heap.places[place] = heap.places[below]
        place = below
    heap.places[place] = last
    return first
