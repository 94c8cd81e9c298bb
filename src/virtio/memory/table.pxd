"""Guest memory as the data path sees it: a table of mapped regions and the one address check.

A table never changes once made. Adding or removing a region makes another table; the queues are
paused while they are handed the new one.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct Region:
    uint64_t guest      # first address as the driver names it (guest-physical or I/O virtual)
    uint64_t size       # bytes
    uint64_t user       # first address as the front-end process names it
    char *host          # first address as this process names it


cdef struct Table:
    int count
    Region *regions     # ascending by guest address, none overlapping
    int faulted         # set by the SIGBUS guard: a page of this memory vanished under us
    uint8_t *log        # dirty bitmap, one bit a 4 KiB page of guest address; NULL when not logging
    uint64_t log_size   # bytes in it


cdef inline char *translate(const Table *table, uint64_t address, uint64_t length, uint64_t *run) noexcept nogil:
    """Find ``address`` in ``table``. Set ``run`` to how many of ``length`` bytes lie contiguously there.

    NULL if the address is in no region. The caller asks again for the rest when ``run < length`` and must
    have refused a length that wraps past 2**64 beforehand.
    """
    cdef int i
    cdef uint64_t offset
    for i in range(table.count):
        # Unsigned: an address below the region gives a huge offset and fails the same test.
        offset = address - table.regions[i].guest
        if offset < table.regions[i].size:
            run[0] = table.regions[i].size - offset
            if run[0] > length:
                run[0] = length
            return table.regions[i].host + offset
    return NULL


cdef void log_write(Table *table, const char *host, uint64_t length) noexcept nogil


cdef class Mapping:
    """One file descriptor's bytes mapped here; unmapped when the last user of it is gone."""
    cdef readonly uint64_t guest_address
    cdef readonly uint64_t size
    cdef readonly uint64_t user_address
    cdef readonly uint64_t offset
    cdef char *base         # what mmap returned, page-aligned
    cdef uint64_t mapped    # bytes to unmap
    cdef char *host         # the region's own first byte


cdef class GuestMemory:
    """An immutable table of mappings."""
    cdef readonly tuple regions     # of Mapping
    cdef Table table
    cdef object log                 # keeps the dirty bitmap's mapping alive
