"""A gate that many threads pass without meeting: what is behind it changes only while none is inside.

Each thread counts itself in a slot of its own, on a cache line of its own; closing the gate looks at all of
them. Passing costs two atomic additions to a line that nobody else wants, about five nanoseconds.
"""

from libc.stdint cimport int64_t, uint64_t, uintptr_t

from virtio.memory.atomic cimport RELEASE, SEQ_CST, add_int, load_int, store_int
from virtio.storage.linux cimport usleep

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    uintptr_t pthread_self()
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

cdef enum:
    SLOTS = 64              # the hash below gives six bits
    PATIENCE = 20000        # times 50 us, to wait for those inside


cdef struct Slot:
    # One thread's share, rarely of several; 64 bytes.
    int inside              # threads behind the gate; atomic
    int untold              # copies until the next look at major faults
    uint64_t owner          # thread that `faults` is of
    int64_t faults          # its major faults so far
    uint64_t reads          # copies made
    uint64_t writes
    uint64_t proofs         # looks at a chunk
    uint64_t denied         # those that found it not resident
    uint64_t spare


cdef struct Gate:
    Slot *slots             # SLOTS of them, aligned
    int shut                # nobody may enter; atomic
    pthread_mutex_t mutex   # one at a time closes it


cdef inline Slot *enter(Gate *gate, const int *lost) noexcept nogil:
    """Go in; NULL while the gate is shut, or where `lost` is set."""
    # Thread ids are addresses far apart: Fibonacci's hash.
    cdef Slot *slot = gate.slots + ((<uint64_t>pthread_self() * 0x9E3779B97F4A7C15ULL) >> 58)
    add_int(&slot.inside, 1, SEQ_CST)
    if (load_int(&gate.shut, SEQ_CST) | load_int(lost, SEQ_CST)) == 0:
        return slot
    leave(slot)
    return NULL


cdef inline void leave(Slot *slot) noexcept nogil:
    add_int(&slot.inside, -1, RELEASE)


cdef inline bint close(Gate *gate) noexcept nogil:
    """Let nobody in, and wait until all are out. False if someone hangs: then nothing has changed."""
    cdef int i
    cdef int patience = PATIENCE
    pthread_mutex_lock(&gate.mutex)
    store_int(&gate.shut, 1, SEQ_CST)
    for i in range(SLOTS):
        while load_int(&gate.slots[i].inside, SEQ_CST) != 0:
            patience -= 1
            if patience == 0:
                reopen(gate)
                return False
            usleep(50)
    return True


cdef inline void reopen(Gate *gate) noexcept nogil:
    store_int(&gate.shut, 0, SEQ_CST)
    pthread_mutex_unlock(&gate.mutex)


cdef inline void keep_shut(Gate *gate) noexcept nogil:
    """Others may close it too, to change what is behind; nobody enters."""
    pthread_mutex_unlock(&gate.mutex)
