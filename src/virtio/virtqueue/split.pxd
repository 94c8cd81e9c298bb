"""Split virtqueues (virtio 1.4, 2.7): their layout, and the device's end of them."""

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from virtio.memory.atomic cimport SEQ_CST, compiler_fence
from virtio.memory.table cimport GuestMemory
from virtio.virtqueue.queue cimport Chain, DeviceQueue

cdef extern from * nogil:
    uint16_t swap16 "__builtin_bswap16"(uint16_t)
    uint32_t swap32 "__builtin_bswap32"(uint32_t)
    uint64_t swap64 "__builtin_bswap64"(uint64_t)


cdef enum:
    DESC_NEXT = 1
    DESC_WRITE = 2
    DESC_INDIRECT = 4
    DESC_BYTES = 16
    # The available and used rings as arrays of 16-bit words.
    RING_FLAGS = 0
    RING_INDEX = 1
    RING_ENTRIES = 2        # available: one word an entry; used: four words an element
    USED_WORDS = 4
    NO_NOTIFICATION = 1     # in RING_FLAGS, of either side
    NOT_SINGLE = 1          # beside 0 and the RingFaults


cdef struct Descriptor:
    uint64_t address
    uint32_t length
    uint16_t flags
    uint16_t next


cdef struct UsedElement:
    # struct virtq_used_elem
    uint32_t id
    uint32_t length


# Byte order: the fields are the machine's own, or swapped when the other side's order is not.
cdef inline uint16_t order16(uint16_t value, bint swapped) noexcept nogil:
    return swap16(value) if swapped else value


cdef inline uint32_t order32(uint32_t value, bint swapped) noexcept nogil:
    return swap32(value) if swapped else value


cdef inline uint64_t order64(uint64_t value, bint swapped) noexcept nogil:
    return swap64(value) if swapped else value


cdef inline Descriptor read_descriptor(const char *place, bint swapped) noexcept nogil:
    """Copy a descriptor out, once: what is checked is what is used, whatever the driver does meanwhile."""
    cdef Descriptor found
    # Field by field, each becomes one load of its size; an indirect table need not be aligned.
    memcpy(&found.address, place, 8)
    memcpy(&found.length, place + 8, 4)
    memcpy(&found.flags, place + 12, 2)
    memcpy(&found.next, place + 14, 2)
    compiler_fence(SEQ_CST)
    found.address = order64(found.address, swapped)
    found.length = order32(found.length, swapped)
    found.flags = order16(found.flags, swapped)
    found.next = order16(found.next, swapped)
    return found


@cython.final
cdef class SplitDeviceQueue(DeviceQueue):
    cdef bint swapped
    cdef bint notify_on_empty
    cdef uint16_t mask          # size - 1
    cdef const char *descriptors
    cdef uint16_t *avail        # words
    cdef uint16_t *used         # words
    cdef UsedElement *given     # what the used ring is to hold, at the same places, until it is published
    cdef uint16_t next_avail    # the next entry of the available ring to take
    cdef uint16_t seen_avail    # the driver's index when last looked at
    cdef uint16_t next_used     # where the next used element goes
    cdef uint16_t published     # the used index that the driver sees
    cdef uint16_t signalled     # next_used when a notification was last considered
    cdef bint signalled_known   # false after a restore: then notify


    cdef int refresh(self, int limit) noexcept nogil
    cdef int walk(self, Chain *chain, uint16_t head, bint swapped) noexcept nogil
    cdef int walk_indirect(
        self, Chain *chain, uint64_t address, uint32_t length, uint32_t visited, bint swapped
    ) noexcept nogil
    cdef void look_ahead(self, int count) noexcept nogil
    cdef const char *descriptor_of(self, int ahead) noexcept nogil
    cdef int take_back(self, Chain **chains, int count) noexcept nogil
    cdef void write_given(self) noexcept nogil
    cdef void write_elements(self, uint32_t first, uint32_t count) noexcept nogil
    cdef void _store_flags(self, uint16_t flags) noexcept nogil
    cdef void _store_used(self, size_t word, uint16_t value, int order) noexcept nogil
