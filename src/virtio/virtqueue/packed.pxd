"""Packed virtqueues (virtio 1.4, 2.8): their layout, and the device's end of them."""

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from virtio.memory.atomic cimport SEQ_CST, compiler_fence
from virtio.memory.table cimport GuestMemory
from virtio.virtqueue.queue cimport Chain, DeviceQueue


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
    DESC_BYTES = 16
    IN_LINE = 4         # descriptors in a cache line

    EVENTS_ENABLE = 0
    EVENTS_DISABLE = 1
    EVENTS_DESC = 2


cdef inline Descriptor copy_descriptor(const char *place) noexcept nogil:
    """Copy a descriptor out, once: what is checked is what is used, whatever the driver does meanwhile."""
    cdef Descriptor copy
    # Field by field, each becomes one load of its size; an indirect table need not be aligned.
    memcpy(&copy.address, place, 8)
    memcpy(&copy.length, place + 8, 4)
    memcpy(&copy.id, place + 12, 2)
    memcpy(&copy.flags, place + 14, 2)
    compiler_fence(SEQ_CST)
    return copy


cdef inline uint64_t second_half(uint32_t length, uint16_t id, uint16_t flags) noexcept nogil:
    """What follows the address in a descriptor, to be stored in one go."""
    return length | <uint64_t>id << 32 | <uint64_t>flags << 48


cdef inline uint64_t *half_of(Descriptor *descriptor) noexcept nogil:
    """Where that goes."""
    return <uint64_t *>&descriptor.length


cdef struct Given:
    uint64_t half       # `second_half` of a used descriptor
    uint16_t index      # where it goes
    uint16_t marks      # how a used descriptor is marked there


cdef struct Position:
    uint32_t index      # of a descriptor
    uint32_t wrap       # the wrap counter: 0 or 1


cdef inline void advance(Position *position, uint32_t steps, uint32_t size) noexcept nogil:
    """Go on by `steps` (at most `size`) descriptors."""
    position.index += steps
    if position.index >= size:
        position.index -= size
        position.wrap ^= 1


cdef inline void retreat(Position *position, uint32_t steps, uint32_t size) noexcept nogil:
    """Undo `advance`."""
    if position.index < steps:
        position.index += size
        position.wrap ^= 1
    position.index -= steps


# A Position is read part by part: read as a whole, just after its parts were written, it would wait for all that
# the processor has yet to write, other processors' cache lines among it.

cdef inline Position before(const Position *position, uint32_t steps, uint32_t size) noexcept nogil:
    """Where it was `steps` (at most `size`) descriptors ago."""
    cdef Position place
    place.index = position.index
    place.wrap = position.wrap
    retreat(&place, steps, size)
    return place


cdef inline uint16_t avail_marks(uint32_t wrap) noexcept nogil:
    """How a descriptor made available is marked (2.8.1)."""
    return DESC_AVAIL if wrap else DESC_USED


cdef inline uint16_t used_marks(uint32_t wrap) noexcept nogil:
    """How a used descriptor is marked (2.8.1)."""
    return DESC_MARKS if wrap else 0


cdef inline uint32_t event_word(Position position, bint event_idx) noexcept nogil:
    """An event suppression structure that asks for events from `position` on (2.8.14)."""
    return position.index | position.wrap << 15 | <uint32_t>(EVENTS_DESC if event_idx else EVENTS_ENABLE) << 16


cdef inline bint events_disabled(uint32_t events) noexcept nogil:
    """Does an event suppression structure ask for none at all?"""
    return (events >> 16 & 3) == EVENTS_DISABLE


cdef inline bint event_due(
    uint32_t events, bint event_idx, Position start, uint32_t steps, uint32_t size
) noexcept nogil:
    """Does an event suppression structure ask to hear of `steps` descriptors from `start` on (2.8.10)?

    What it cannot mean (the reserved value, DESC without EVENT_IDX, an offset beyond the ring) asks for all.
    """
    cdef uint32_t offset = events & 0x7FFF
    cdef int64_t ahead
    if events_disabled(events):
        return False
    if (events >> 16 & 3) != EVENTS_DESC or not event_idx or offset >= size:
        return True
    # Two laps, one for each value of the wrap counter, make a circle without ambiguity.
    ahead = <int64_t>offset - <int64_t>start.index
    if (events >> 15 & 1) != start.wrap:
        ahead += size
    if ahead < 0:
        ahead += 2 * <int64_t>size
    return ahead < steps


# Raises UsageError for a place beyond the ring.
cdef Position position_of(uint32_t index, bint wrap, uint32_t size) except *


@cython.final
cdef class PackedDeviceQueue(DeviceQueue):
    cdef Descriptor *ring
    cdef const uint32_t *driver_events  # what the driver wants to be notified of
    cdef uint32_t *device_events        # what we want
    cdef Position avail         # the next descriptor to take
    cdef Position used          # the next to write back
    cdef uint32_t held          # descriptors of chains taken and not yet written back
    # What was given since the last publish, written only then.
    cdef Given *given
    cdef uint32_t number        # of them
    cdef uint32_t steps         # descriptors they cover
    cdef bint batched           # the last of them is for more than one chain, if another follows
    cdef bint signalled_known   # false after a restore: then notify


    cdef void look_ahead(self, int limit) noexcept nogil
    cdef int take_back(self, Chain **chains, int count) noexcept nogil
    cdef int walk(self, Chain *chain, uint16_t flags) noexcept nogil
    cdef int walk_indirect(self, Chain *chain, uint64_t address, uint32_t length) noexcept nogil
    cdef void write_given(self) noexcept nogil
    cdef void write_descriptor(self, const Given *given) noexcept nogil
    cdef void _store_events(self, uint32_t events) noexcept nogil
