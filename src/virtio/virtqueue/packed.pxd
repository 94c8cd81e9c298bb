"""Packed virtqueues, both ends (virtio 1.4, 2.8). Twin of `split`."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from virtio.virtqueue.queue cimport Buffer, Chain, Completion, DeviceQueue, DriverQueue


cdef struct Descriptor:
    # struct pvirtq_desc, little-endian
    uint64_t address
    uint32_t length     # bytes; in a used descriptor: bytes written
    uint16_t id
    uint16_t flags


cdef enum:
    DESC_NEXT = 1
    DESC_WRITE = 2
    DESC_INDIRECT = 4
    DESC_AVAIL = 0x80
    DESC_USED = 0x8000
    DESC_MARKS = 0x8080

    EVENTS_ENABLE = 0
    EVENTS_DISABLE = 1
    EVENTS_DESC = 2


cdef struct Position:
    uint32_t index      # of a descriptor
    uint32_t wrap       # the wrap counter: 0 or 1


cdef inline void advance(Position *position, uint32_t steps, uint32_t size) noexcept nogil:
    """Go on by `steps` (at most `size`) descriptors."""
    position.index += steps
    if position.index >= size:
        position.index -= size
        position.wrap ^= 1


cdef inline uint16_t avail_marks(Position position) noexcept nogil:
    """How a descriptor made available here is marked (2.8.1)."""
    return DESC_AVAIL if position.wrap else DESC_USED


cdef inline uint16_t used_marks(Position position) noexcept nogil:
    """How a descriptor used here is marked (2.8.1)."""
    return DESC_MARKS if position.wrap else 0


cdef inline uint32_t event_word(Position position, bint event_idx) noexcept nogil:
    """An event suppression structure that asks for events from `position` on (2.8.14)."""
    return position.index | position.wrap << 15 | <uint32_t>(EVENTS_DESC if event_idx else EVENTS_ENABLE) << 16


cdef inline bint event_due(
    uint32_t events, bint event_idx, Position start, uint32_t steps, uint32_t size
) noexcept nogil:
    """Does an event suppression structure ask to hear of `steps` descriptors from `start` on (2.8.10)?

    What it cannot mean (the reserved value, DESC without EVENT_IDX, an offset beyond the ring) asks for all.
    """
    cdef uint32_t flags = events >> 16 & 3
    cdef uint32_t offset = events & 0x7FFF
    cdef int64_t ahead
    if flags == EVENTS_DISABLE:
        return False
    if flags != EVENTS_DESC or not event_idx or offset >= size:
        return True
    # Two laps, one for each value of the wrap counter, make a circle without ambiguity.
    ahead = <int64_t>offset - <int64_t>start.index
    if (events >> 15 & 1) != start.wrap:
        ahead += size
    if ahead < 0:
        ahead += 2 * <int64_t>size
    return ahead < steps


cdef class PackedDeviceQueue(DeviceQueue):
    """The device's end."""
    cdef Descriptor *ring
    cdef uint32_t *driver_events    # the driver's wishes; read only
    cdef uint32_t *device_events    # ours
    cdef Position avail             # the next descriptor to take
    cdef Position used              # the next to write back
    cdef uint32_t held              # descriptors of chains taken and not yet on the ring again
    # What was given since the last publish.
    cdef Position first             # where its first used descriptor is,
    cdef uint16_t first_flags       # whose flags are written after all the others
    cdef uint32_t steps             # descriptors it covers; 0: nothing was given

    cdef int read_chain(self, Chain *chain, uint16_t flags) noexcept nogil
    cdef int read_table(self, Chain *chain, uint64_t address, uint32_t length) noexcept nogil
    cdef int read_entry(self, uint64_t address, Descriptor *entry) noexcept nogil
    cdef void hold(self, Chain *chain) noexcept nogil
    cdef void write_used(self, Chain *chain) noexcept nogil
    cdef void log_descriptor(self, Descriptor *descriptor) noexcept nogil
    cdef void set_events(self, uint32_t events) noexcept nogil


cdef struct Slot:
    # What the driver remembers of a buffer id.
    uint64_t token
    uint64_t writable_length    # bytes
    uint32_t descriptors        # of the ring; 0 while the id is free
    uint32_t next_free          # id


cdef class PackedDriverQueue(DriverQueue):
    """The driver's end."""
    cdef Descriptor *ring
    cdef uint32_t *driver_events    # ours
    cdef uint32_t *device_events    # the device's wishes; read only
    cdef Slot *slots                # by buffer id
    cdef uint32_t free_id           # the next to hand out
    cdef Descriptor *tables         # indirect tables by buffer id; NULL: none
    cdef uint64_t tables_address
    cdef uint32_t table_entries
    cdef Position avail             # the next descriptor to fill
    cdef Position used              # the next that the device will write
    # What was added since the last publish.
    cdef Position first             # where its first descriptor is,
    cdef uint16_t first_flags       # whose flags are written after all the others
    cdef uint32_t steps             # descriptors it covers; 0: nothing was added
    # With IN_ORDER: chains that the last used descriptor read finished and that are not reaped yet.
    cdef uint32_t oldest_id
    cdef uint32_t batch_last        # id of its last chain
    cdef uint32_t batch_written     # bytes the device wrote to that
    cdef bint in_batch

    cdef void place(self, uint64_t address, uint32_t length, uint32_t id, uint16_t flags) noexcept nogil
    cdef void write_table(self, const Buffer *buffers, int readable, int count, uint32_t id) noexcept nogil
    cdef bint is_used(self, uint16_t flags) noexcept nogil
    cdef int read_used(self, uint16_t flags) noexcept nogil
    cdef void finish(self, Completion *completion) noexcept nogil
    cdef int _make_slots(self) except -1
