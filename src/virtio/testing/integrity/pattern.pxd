"""What a sector holds when it is written, and what may have become of it: all in 512 bytes.

Word 0 is the sector's own address, word 1 the generation, the others a pattern made from both and from the
run's salt, so that what an earlier run left is not mistaken for ours.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SECTOR = 512
    WORDS = 64
    # Generations; those of writes begin above ZEROES.
    UNKNOWN = 0                 # a write to it failed: anything may be there
    ZEROES = 1
    OR_ZEROES = 1 << 31         # flag: discarded, so the former content or zeroes
    # Verdicts.
    FINE = 0
    CORRUPT = 1                 # nothing that was ever written
    STALE = 2                   # what was there before
    MISPLACED = 3               # written for another address


cdef inline uint64_t mix(uint64_t value) noexcept nogil:
    """A good hash of 64 bits (the finaliser of splitmix64)."""
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline uint64_t body(uint64_t sector, uint64_t generation, uint64_t salt) noexcept nogil:
    """What word i of a sector has, less i."""
    return mix(mix(sector ^ salt) + generation)


cdef inline void fill_sector(uint64_t *words, uint64_t sector, uint64_t generation, uint64_t salt) noexcept nogil:
    cdef int i
    cdef uint64_t first = body(sector, generation, salt)
    words[0] = sector
    words[1] = generation
    for i in range(2, WORDS):
        words[i] = first + <uint64_t>i


cdef inline bint holds(const uint64_t *words, uint64_t sector, uint64_t generation, uint64_t salt) noexcept nogil:
    """Whether it is what a write of this generation put there."""
    cdef int i
    cdef uint64_t first = body(sector, generation, salt)
    cdef uint64_t difference = (words[0] ^ sector) | (words[1] ^ generation)
    for i in range(2, WORDS):
        difference |= words[i] ^ (first + <uint64_t>i)
    return difference == 0


cdef inline bint is_zero(const uint64_t *words) noexcept nogil:
    cdef int i
    cdef uint64_t found = 0
    for i in range(WORDS):
        found |= words[i]
    return found == 0


cdef inline int judge(const uint64_t *words, uint64_t sector, uint32_t expected, uint64_t salt) noexcept nogil:
    """FINE, or what is wrong with a sector that was read."""
    cdef uint32_t generation = expected & ~<uint32_t>OR_ZEROES
    if generation > ZEROES and holds(words, sector, generation, salt):
        return FINE
    if generation == UNKNOWN:
        return FINE
    if is_zero(words):
        return FINE if generation == ZEROES or expected & <uint32_t>OR_ZEROES else STALE
    if not holds(words, words[0], words[1], salt):
        return CORRUPT
    return STALE if words[0] == sector else MISPLACED
