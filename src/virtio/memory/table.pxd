"""Guest memory as the data path sees it: a table of mapped regions and the one address check.

A table never changes once made. Adding or removing a region makes another table; the queues are
paused while they are handed the new one.
"""

cimport cython
from libc.stdint cimport uint8_t, uint64_t

from virtio.memory.atomic cimport RELAXED, load_int
from virtio.memory.guard cimport Guard


cdef enum:
    LOG_PAGE = 4096     # bytes of guest memory per bit of the dirty log
    FEW_REGIONS = 8     # up to here looking at each is faster than a binary search


cdef struct Region:
    uint64_t guest      # first address as the driver names it (guest-physical or I/O virtual)
    uint64_t size       # bytes
    uint64_t user       # first address as the front-end process names it
    uint64_t physical   # first address as the dirty log names it: guest-physical always
    char *host          # first address as this process names it
    const int *faulted  # set by the SIGBUS guard: a page of this region's file vanished under us
    bint readable       # by the device; false only for write-only I/O TLB entries
    bint writable


cdef struct Table:
    int count
    Region *regions     # ascending by guest address, none overlapping
    const int *losses   # pages the SIGBUS guard replaced in this whole process
    bint iotlb          # an address outside is not yet translated, rather than wrong
    uint8_t *log        # dirty bitmap, one bit a 4 KiB page of guest address; NULL when not logging
    uint64_t log_size   # bytes in it
    const int *log_faulted  # set when a page of the log vanished: what was written is not known


cdef Region *search(const Table *table, uint64_t address) noexcept nogil
cdef bint any_faulted(const Table *table) noexcept nogil


cdef inline Region *locate(const Table *table, uint64_t address) noexcept nogil:
    """The region that holds ``address``, or NULL."""
    cdef int i
    if table.count > FEW_REGIONS:
        return search(table, address)
    for i in range(table.count):
        # Unsigned: an address below the region gives a huge offset and fails the same test.
        if address - table.regions[i].guest < table.regions[i].size:
            return &table.regions[i]
    return NULL


cdef inline char *translate(const Table *table, uint64_t address, uint64_t length, uint64_t *run) noexcept nogil:
    """Find ``address`` in ``table``. Set ``run`` to how many of ``length`` bytes lie contiguously there.

    NULL if the address is in no region. The caller asks again for the rest when ``run < length`` and must
    have refused a length that wraps past 2**64 beforehand. Whether the region may be written is not asked.
    """
    cdef Region *region = locate(table, address)
    cdef uint64_t offset
    if region == NULL:
        return NULL
    offset = address - region.guest
    run[0] = region.size - offset
    if run[0] > length:
        run[0] = length
    return region.host + offset


cdef inline bint memory_gone(const Table *table) noexcept nogil:
    """Has a page of this memory vanished since it was mapped? One load, as long as none ever did."""
    return load_int(table.losses, RELAXED) != 0 and any_faulted(table)


# Mark what was just written in the dirty log; `table.log` is not NULL.
cdef void log_write(const Table *table, const char *host, uint64_t length) noexcept nogil


@cython.final
cdef class Mapping:
    """One file descriptor's bytes mapped here; unmapped when the last user of it is gone."""
    cdef readonly uint64_t guest_address
    cdef readonly uint64_t size
    cdef readonly uint64_t user_address
    cdef readonly uint64_t physical_address
    cdef readonly uint64_t offset
    cdef readonly uint64_t page_size
    cdef readonly bint readable
    cdef readonly bint writable
    cdef Mapping owner      # a part of a mapping keeps the whole
    cdef char *base         # what mmap returned, page-aligned; NULL for a part
    cdef uint64_t mapped    # bytes to unmap
    cdef char *host         # the region's own first byte
    cdef int fault_flag
    cdef int *fault         # fault_flag, the owner's for a part
    cdef Guard *guard

    cdef int map(self, int fd, uint64_t begin) except -1


@cython.final
cdef class GuestMemory:
    """An immutable table of mappings."""
    cdef readonly tuple regions     # of Mapping
    cdef Table table
    cdef Mapping dirty_log          # keeps the dirty bitmap mapped

    cdef Region *region_of(self, uint64_t address, uint64_t length) except NULL
    cdef int copy(self, uint64_t address, char *buffer, uint64_t length, bint write) except -1
    # A memoryview of host memory that lies in this table.
    cdef object window(self, char *host, uint64_t length, bint writable)


@cython.final
cdef class Window:
    """Some bytes of guest memory as a buffer: they stay mapped as long as a view of them exists."""
    cdef GuestMemory memory
    cdef char *host
    cdef Py_ssize_t length
    cdef bint writable
