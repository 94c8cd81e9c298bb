"""Readers that never wait, and a writer that waits until none of them can still see what was replaced.

A reader counts itself in a slot of its thread, on a cache line of its own, under the phase it found. The writer
turns the phase and waits for those of the old one, twice: a reader may have read the phase before the first
turn and counted itself after the first look. Whoever counts itself later sees what the writer put in place.
"""

from libc.stdint cimport uint64_t, uintptr_t

from virtio.memory.atomic cimport RELAXED, RELEASE, SEQ_CST, add_int, load_int, store_int

cdef extern from "<pthread.h>" nogil:
    uintptr_t pthread_self()

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int microseconds)

cdef enum:
    SLOTS = 64              # the hash below gives six bits


cdef struct Slot:
    # One thread's share, rarely of several; 64 bytes.
    int inside[2]           # readers, by phase; atomic
    int spare[14]


cdef struct Grace:
    Slot *slots             # SLOTS of them, aligned
    int phase               # its lowest bit counts; atomic


cdef inline int *enter(Grace *grace) noexcept nogil:
    """Begin to read; the result is for `leave`."""
    # Thread ids are addresses far apart: Fibonacci's hash.
    cdef Slot *slot = grace.slots + ((<uint64_t>pthread_self() * 0x9E3779B97F4A7C15ULL) >> 58)
    cdef int *inside = &slot.inside[load_int(&grace.phase, RELAXED) & 1]
    add_int(inside, 1, SEQ_CST)
    return inside


cdef inline void leave(int *inside) noexcept nogil:
    add_int(inside, -1, RELEASE)


cdef inline void wait_for_readers(Grace *grace) noexcept nogil:
    """Return once all who may have seen what was replaced before this call have left. One writer at a time."""
    cdef int turn, old, i
    for turn in range(2):
        old = add_int(&grace.phase, 1, SEQ_CST) & 1
        for i in range(SLOTS):
            while load_int(&grace.slots[i].inside[old], SEQ_CST) != 0:
                usleep(20)
