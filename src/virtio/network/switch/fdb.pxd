"""Which station is behind which port: a table that is read without a lock.

Open addressing in buckets of a cache line; a key may be in either of two. One writer at a time (whoever finds
the table being written goes on without learning); a reader repeats its look if the bucket changed meanwhile.
"""

cimport cython
from libc.stdint cimport int16_t, int32_t, uint32_t, uint64_t

from virtio.memory.atomic cimport ACQUIRE, RELAXED, cpu_pause, fence, load_u32, load_u64

cdef extern from * nogil:
    int exchange_int "__atomic_exchange_n"(int *, int, int) noexcept
    int16_t load_i16 "__atomic_load_n"(const int16_t *, int) noexcept
    void store_i16 "__atomic_store_n"(int16_t *, int16_t, int) noexcept

cdef enum:
    WAYS = 4                # stations in a bucket
    NOWHERE = -1            # no port
    RETRIES = 32

cdef enum Learned:
    KNOWN = 0
    NEW = 1
    MOVED = 2
    FULL = 3                # both buckets are full of stations that are alive
    BUSY = 4                # somebody else was writing


cdef struct Bucket:         # 64 bytes
    uint32_t version        # odd while it is written; atomic
    uint32_t spare
    uint64_t keys[WAYS]     # USED | VLAN << 48 | address; 0: free
    uint32_t stamps[WAYS]   # seconds at which it was last heard of
    int16_t ports[WAYS]


cdef struct Table:
    Bucket *buckets
    uint32_t mask           # buckets are a power of two
    uint32_t ageing         # seconds after which a station is forgotten; 0: never
    int writing             # atomic


cdef struct Place:
    Bucket *bucket
    int way
    int port                # NOWHERE: not in the table
    uint32_t stamp


cdef inline uint64_t key_of(uint64_t address, uint32_t vlan) noexcept nogil:
    """`address` has six bytes, the first one sent being the highest."""
    return (<uint64_t>1 << 63) | (<uint64_t>vlan << 48) | address


cdef inline uint32_t first_choice(uint64_t key) noexcept nogil:
    return <uint32_t>((key * 0x9E3779B97F4A7C15ULL) >> 32)


cdef inline uint32_t second_choice(uint64_t key) noexcept nogil:
    return <uint32_t>(((key ^ (key >> 29)) * 0xBF58476D1CE4E5B9ULL) >> 32)


cdef inline bint alive(const Table *table, uint32_t stamp, uint32_t now) noexcept nogil:
    # Signed: another thread's clock may be a second ahead of ours.
    return table.ageing == 0 or <int32_t>(now - stamp) <= <int32_t>table.ageing


cdef inline bint look(Bucket *bucket, uint64_t key, Place *place) noexcept nogil:
    """Look for `key` in a bucket; a bucket that is written all the time reads as one without it."""
    cdef uint32_t version
    cdef int i, tries
    for tries in range(RETRIES):
        version = load_u32(&bucket.version, ACQUIRE)
        if version & 1:
            cpu_pause()
            continue
        place.way = -1
        for i in range(WAYS):
            if load_u64(&bucket.keys[i], RELAXED) == key:
                place.way = i
                place.port = load_i16(&bucket.ports[i], RELAXED)
                place.stamp = load_u32(&bucket.stamps[i], RELAXED)
                break
        fence(ACQUIRE)
        if load_u32(&bucket.version, RELAXED) == version:
            place.bucket = bucket
            return place.way >= 0
    return False


cdef inline bint find(Table *table, uint64_t key, Place *place) noexcept nogil:
    """Find `key`, however old it is."""
    if look(table.buckets + (first_choice(key) & table.mask), key, place):
        return True
    if look(table.buckets + (second_choice(key) & table.mask), key, place):
        return True
    place.port = NOWHERE
    return False


cdef inline int port_of(Table *table, uint64_t key, uint32_t now) noexcept nogil:
    """The port behind which a station is, or NOWHERE."""
    cdef Place place
    if find(table, key, &place) and alive(table, place.stamp, now):
        return place.port
    return NOWHERE


@cython.final
cdef class Fdb:
    cdef Table table
    cdef readonly int capacity      # stations
    cdef Learned learn(self, uint64_t key, int port, uint32_t now) noexcept nogil
    cdef Learned insert(self, uint64_t key, int port, uint32_t now) noexcept nogil
    cdef void write(self, Bucket *bucket, int way, uint64_t key, int port, uint32_t now) noexcept nogil
    cdef void forget(self, int port) noexcept nogil
    cdef void lock(self) noexcept nogil
