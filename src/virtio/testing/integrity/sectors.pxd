"""What each sector of the tested span must hold, and who uses it at the moment."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    WRITER = 255            # in a sector's lock; below: how many read it
    T_IN = 0
    T_OUT = 1
    T_DISCARD = 11


cdef struct Slot:
    # One request.
    char *head              # in this process
    char *data
    uint64_t head_address   # for the device
    uint64_t data_address
    uint64_t sector
    uint32_t sectors
    uint32_t kind
    uint32_t generation     # that the sectors have when the request succeeded
    uint32_t shift          # bytes of the data's memory left free before it
    uint32_t busy


cdef class Sectors:
    cdef uint32_t *generations          # of each sector
    cdef unsigned char *locks           # of each sector
    cdef readonly uint64_t span         # sectors
    cdef uint64_t salt
    cdef readonly uint64_t checked
    cdef readonly uint64_t written
    cdef uint64_t verdicts[4]           # sectors, by verdict
    cdef readonly uint64_t first_wrong  # byte offset on the disk

    cdef bint lock(self, Slot *slot) noexcept nogil
    cdef void unlock(self, Slot *slot) noexcept nogil
    cdef void fill(self, Slot *slot) noexcept nogil
    cdef void blank(self, Slot *slot) noexcept nogil
    cdef void record(self, Slot *slot, bint succeeded) noexcept nogil
    cdef void check(self, Slot *slot) noexcept nogil
