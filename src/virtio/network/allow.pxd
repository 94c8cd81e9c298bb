"""An allow-list enforced on frames."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from virtio.network.filter cimport FilterLink
from virtio.network.frame cimport Frame

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

cdef enum:
    PEEK = 192              # bytes of a frame that are looked at
    SETS = 1024             # of flows
    WAYS = 4
    TCP_SECONDS = 3600      # a conversation that says nothing is forgotten
    UDP_SECONDS = 180

cdef enum Verdict:
    PASS = 0
    DROP = 1
    BY_ADDRESS = 2          # by the address, or because the conversation was allowed to begin
    QUERY = 3               # a question to a resolver


cdef struct Look:           # what decides about a frame; `remote` is the other end's
    uint8_t remote[16]      # IPv4 as ::ffff:a.b.c.d
    uint16_t remote_port
    uint16_t local_port
    uint8_t protocol
    bint ports              # whether there are ports: neither a later fragment nor another protocol
    bint opens              # a SYN without ACK
    bint ipv6
    uint32_t size           # bytes that were copied
    uint8_t head[PEEK]


cdef struct Flow:
    uint8_t remote[16]
    uint16_t remote_port
    uint16_t local_port
    uint8_t protocol
    int64_t until           # seconds; 0: unused


cdef class AllowLink(FilterLink):
    cdef readonly object policy
    cdef Flow *flows
    cdef pthread_mutex_t lock
    cdef uint64_t denied            # frames; atomic
    cdef uint64_t refused           # queries; atomic
    cdef Verdict judge(self, const Frame *frame, Look *look) noexcept nogil
    cdef bint admit(self, int queue, const Frame *frame) noexcept nogil
    cdef bint known(self, const Look *look, int64_t now) noexcept nogil
    cdef void remember(self, const Look *look, int64_t now) noexcept nogil
    cdef bint reachable(self, const Look *look) noexcept
    cdef bint ask(self, int queue, const Frame *frame) noexcept
    cdef void notice(self, const Frame *frame) noexcept nogil
    cdef void learn(self, const Frame *frame) noexcept
    cdef void answer(self, int queue, bytes data) noexcept
