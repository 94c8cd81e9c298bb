"""Internet checksums (RFC 1071), and numbers in network byte order."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline uint32_t get16(const uint8_t *place) noexcept nogil:
    return <uint32_t>place[0] << 8 | place[1]


cdef inline uint32_t get32(const uint8_t *place) noexcept nogil:
    return get16(place) << 16 | get16(place + 2)


cdef inline void put16(uint8_t *place, uint32_t value) noexcept nogil:
    place[0] = <uint8_t>(value >> 8)
    place[1] = <uint8_t>value


cdef inline void put32(uint8_t *place, uint32_t value) noexcept nogil:
    put16(place, value >> 16)
    put16(place + 2, value)


cdef inline uint64_t sum_words(const uint8_t *data, uint32_t length, uint64_t sum) noexcept nogil:
    """Add `length` bytes, the last one padded, to a sum of 16-bit words that is to be `folded`.

    Four bytes at a time, in the machine's order: the sum does not care, if it is stored the same way.
    """
    cdef uint32_t word
    cdef uint16_t half
    cdef uint8_t rest[2]
    while length >= 4:
        memcpy(&word, data, 4)
        sum += word
        data += 4
        length -= 4
    if length >= 2:
        memcpy(&half, data, 2)
        sum += half
        data += 2
        length -= 2
    if length > 0:
        rest[0] = data[0]
        rest[1] = 0
        memcpy(&half, rest, 2)
        sum += half
    return sum


cdef inline uint16_t folded(uint64_t sum) noexcept nogil:
    """The checksum that a sum makes, in the machine's order."""
    # Twice for the carries of 32 bits, three times for those of 16.
    sum = <uint64_t><uint32_t>sum + (sum >> 32)
    sum = <uint64_t><uint32_t>sum + (sum >> 32)
    sum = (sum & 0xFFFF) + (sum >> 16)
    sum = (sum & 0xFFFF) + (sum >> 16)
    sum = (sum & 0xFFFF) + (sum >> 16)
    return <uint16_t>~sum


cdef inline void store_sum(uint8_t *place, uint64_t sum) noexcept nogil:
    """Write a checksum; where zero would mean that there is none, its other form."""
    cdef uint16_t check = folded(sum)
    if check == 0:
        check = 0xFFFF
    memcpy(place, &check, 2)
