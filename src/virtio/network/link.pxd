"""Where frames go: the one interface between a NIC, the filters and the world."""

from libc.stdint cimport uint64_t

from virtio.network.frame cimport Frame


cdef class Sink:
    """Takes frames."""
    # Take frames in order. Number taken; the others found no room, and the caller keeps or drops (and counts)
    # them. The frames and their bytes are the caller's again on return. Any thread may call, several at once;
    # nothing in it may wait. `queue` is the sender's, a hint to keep flows apart.
    cdef int put(self, int queue, const Frame *frames, int count) noexcept nogil


cdef class Link(Sink):
    """One NIC's way to the world; `put` takes what the guest sends."""
    cdef Sink guest                 # what the world sends goes there; none before `connect`
    cdef readonly int queues        # pairs that the NIC has
    # For links that wait for a file descriptor (see `receive_fd`): move up to `budget` frames that have come to
    # `guest`. Number moved; -EAGAIN: none has come; -ENOSPC: the guest has no room, come back when it has.
    # Called by one thread at a time for a queue.
    cdef int receive(self, int queue, int budget) noexcept nogil
