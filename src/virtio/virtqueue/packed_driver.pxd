"""The driver's end of packed virtqueues."""

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from virtio.virtqueue.packed cimport Descriptor, Position
from virtio.virtqueue.queue cimport Buffer, Completion, DriverQueue


cdef struct Slot:
    # What the driver remembers of a buffer id.
    uint64_t token
    uint64_t writable_length    # bytes
    uint32_t descriptors        # of the ring; 0 while the id is free
    uint32_t next_free          # id


cdef struct Made:
    # A descriptor: its address, and `second_half`.
    uint64_t address
    uint64_t half


@cython.final
cdef class PackedDriverQueue(DriverQueue):
    cdef bint with_data         # NOTIFICATION_DATA
    cdef Descriptor *ring
    cdef uint32_t *driver_events        # what we want to be notified of
    cdef const uint32_t *device_events  # what the device wants
    cdef Slot *slots            # by buffer id
    cdef uint32_t free_id       # the next to hand out
    cdef Descriptor *tables     # indirect tables by buffer id; NULL: none
    cdef uint64_t tables_address
    cdef uint32_t table_entries # descriptors in each
    cdef Position avail         # the next descriptor to fill
    cdef Position used          # the next that the device will write
    # What was added since the last publish, written only then.
    cdef Made *made
    cdef uint32_t steps         # of them
    # What the used descriptor read last finished, and was not reaped yet. One chain; with IN_ORDER more.
    cdef bint in_batch
    cdef uint32_t batch_last    # id of its last chain
    cdef uint32_t batch_written # bytes the device wrote to that one
    cdef uint32_t oldest_id     # with IN_ORDER: of the chain added first


    cdef int find_areas(self, uint64_t indirect_tables) except -1
    cdef int allocate(self) except -1
    cdef void write_list(self, const Buffer *buffers, int readable, int count, uint32_t id) noexcept nogil
    cdef void write_table(self, const Buffer *buffers, int readable, int count, uint32_t id) noexcept nogil
    cdef void put_descriptor(
        self, uint64_t address, uint32_t length, uint32_t id, uint16_t flags
    ) noexcept nogil
    cdef void write_made(self, Position first, uint32_t steps) noexcept nogil
    cdef void write_descriptor(self, Position first, uint32_t step) noexcept nogil
    cdef bint is_used(self, uint16_t flags) noexcept nogil
    cdef int read_used(self, uint16_t flags) noexcept nogil
    cdef void finish(self, Completion *completion) noexcept nogil
