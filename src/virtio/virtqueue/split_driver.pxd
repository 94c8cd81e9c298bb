"""The driver's end of a split virtqueue (virtio 1.4, 2.7)."""

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from virtio.virtqueue.queue cimport Buffer, Completion, DriverQueue


cdef struct Slot:
    # What the driver remembers of a chain, by its head; the device can write none of it.
    uint64_t token
    uint64_t writable_length    # bytes
    uint16_t count              # ring descriptors it occupies; 0: no chain has this head
    uint16_t last               # the last of them


@cython.final
cdef class SplitDriverQueue(DriverQueue):
    cdef bint swapped
    cdef bint with_data         # NOTIFICATION_DATA
    cdef uint16_t mask          # size - 1
    cdef char *descriptors
    cdef uint16_t *avail        # words
    cdef const uint16_t *used   # words
    cdef char *tables           # indirect tables, one for each descriptor; NULL for none
    cdef uint64_t tables_address
    cdef uint32_t table_entries
    cdef Slot *slots
    cdef uint16_t *links        # free descriptors, and the descriptors of a chain: what follows each
    cdef uint16_t *order        # with IN_ORDER: heads by their place in the available ring
    cdef uint16_t free_head
    cdef uint16_t next_avail
    cdef uint16_t published     # the available index that the device sees
    cdef uint16_t next_used     # the next used element to look at
    cdef uint16_t seen_used     # the device's index when last looked at
    cdef uint16_t batch         # with IN_ORDER: chains left of the batch that one used element ended
    cdef uint32_t batch_written # what that element said was written to the last of them


    cdef int find_areas(self, uint64_t indirect_tables) except -1
    cdef int allocate(self) except -1
    cdef void write_chain(self, const Buffer *buffers, int readable, int count, uint16_t head) noexcept nogil
    cdef void write_table(self, const Buffer *buffers, int readable, int count, uint16_t head) noexcept nogil
    cdef void put_descriptor(
        self, char *place, uint64_t address, uint32_t length, uint16_t flags, uint16_t following
    ) noexcept nogil
    cdef int refresh(self, int limit) noexcept nogil
    cdef int next_head(self, int ready, uint32_t *written) noexcept nogil
    cdef int next_in_order(self, uint32_t identifier, uint32_t length, int ready, uint32_t *written) noexcept nogil
    cdef void release(self, uint16_t head) noexcept nogil
    cdef void _store_flags(self, uint16_t flags) noexcept nogil
