"""A frame's bytes changed: its checksum computed, a bit flipped."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from virtio.network.frame cimport NEEDS_CSUM
from virtio.network.impair.heap cimport Held


# Compute what the header leaves to be computed (RFC 1071), so that a receiver sees the damage that follows.
cdef inline void finish_checksum(Held *held) noexcept nogil:
    cdef uint8_t *data = <uint8_t *> held.segment.iov_base
    cdef uint32_t length = held.frame.length
    cdef uint32_t i = held.frame.header.csum_start
    cdef uint32_t at = i + held.frame.header.csum_offset
    cdef uint64_t total = 0
    if held.frame.header.flags & NEEDS_CSUM and at + 2 <= length:
        while i + 1 < length:
            total += (<uint32_t> data[i] << 8) | data[i + 1]
            i += 2
        if i < length:
            total += <uint32_t> data[i] << 8
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        data[at] = <uint8_t> ((~total >> 8) & 0xFF)
        data[at + 1] = <uint8_t> (~total & 0xFF)
    held.frame.header.flags = 0


# Flip one bit; `chance` is any number.
cdef inline void flip(Held *held, uint64_t chance) noexcept nogil:
    cdef uint8_t *data = <uint8_t *> held.segment.iov_base
    cdef uint64_t bit = chance % (<uint64_t> held.frame.length * 8)
    data[bit // 8] = data[bit // 8] ^ <uint8_t> (1 << (bit % 8))
