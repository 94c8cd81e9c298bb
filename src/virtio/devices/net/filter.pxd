"""Which received frames a driver wants, looked up frame by frame."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    ETHERNET = 14           # bytes of an Ethernet header
    TAGGED = 16             # bytes up to the end of a VLAN tag's id
    VLANS = 4096


cdef class ReceiveFilter:
    """Immutable: a NIC is given another one instead, so that a frame meets the old rules or the new ones."""
    cdef readonly bint promisc
    cdef readonly bint allmulti
    cdef readonly bint alluni
    cdef readonly bint nomulti
    cdef readonly bint nouni
    cdef readonly bint nobcast
    cdef bint filter_vlans
    cdef uint8_t vlans[512]         # a bit for each id
    cdef uint64_t *table            # open addressing; an address with bit 48 set, 0 for an empty place
    cdef uint32_t mask              # places in the table, less one

    # Whether the frame that begins with `length` bytes at `head` (all of it, or 16 at least) is wanted.
    cdef bint admits(self, const char *head, uint32_t length) noexcept nogil
    cdef bint in_table(self, uint64_t key) noexcept nogil
    cdef int build(self, keys) except -1
