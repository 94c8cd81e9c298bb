"""The Toeplitz hash of a packet's addresses and ports, by tables."""

from libc.stdint cimport uint16_t, uint32_t

from virtio.devices.net.headers cimport Flow, octets

cdef enum:
    KEY = 40                # bytes: enough for two IPv6 addresses and two ports
    INPUT = 36              # bytes hashed at most

cdef enum:                  # HASH_REPORT_*; TCP is the next number, UDP the one after
    IPV4 = 1
    IPV6 = 4
    UDPV6 = 6
    IPV6_EX = 7


cdef class Hasher:
    """Immutable."""
    cdef readonly uint32_t types        # HASH_TYPE_*
    cdef readonly uint32_t tunnels      # HASH_TUNNEL_TYPE_*: hash the inner packet of these
    cdef uint32_t rows[36][256]         # what each value of each input byte adds to the hash

    # The hash of a frame; False, and HASH_REPORT_NONE, if none is calculated.
    cdef bint hash(self, octets frame, uint32_t length, uint32_t *value, uint16_t *report) noexcept nogil
    cdef int choose_type(self, const Flow *flow) noexcept nogil
    cdef uint32_t fold(self, int at, octets data, int count, uint32_t value) noexcept nogil
