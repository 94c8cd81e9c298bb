"""What the queues of one NIC share, and the way in for frames from the world."""

from libc.stdint cimport uint16_t, uint32_t

from virtio.devices.net.filter cimport ReceiveFilter
from virtio.devices.net.intake cimport Intake
from virtio.devices.net.steering cimport Steering
from virtio.devices.net.terms cimport Counters, Terms
from virtio.network.frame cimport BURST, Frame
from virtio.network.link cimport Link, Sink

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_rwlock_t:
        pass
    ctypedef struct pthread_rwlockattr_t:
        pass
    int PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP
    int pthread_rwlockattr_init(pthread_rwlockattr_t *)
    int pthread_rwlockattr_setkind_np(pthread_rwlockattr_t *, int)
    int pthread_rwlockattr_destroy(pthread_rwlockattr_t *)
    int pthread_rwlock_init(pthread_rwlock_t *, const pthread_rwlockattr_t *)
    int pthread_rwlock_destroy(pthread_rwlock_t *)
    int pthread_rwlock_rdlock(pthread_rwlock_t *)
    int pthread_rwlock_wrlock(pthread_rwlock_t *)
    int pthread_rwlock_unlock(pthread_rwlock_t *)

cdef enum:
    MOST_PAIRS = 0x8000     # virtio 1.4, Network Device: max_virtqueue_pairs
    HEAD_BYTES = 18         # of a frame that a filter looks at: two addresses, a VLAN tag, a type


cdef class Nic(Sink):
    """`put` takes what the world sends."""
    cdef readonly Link link
    cdef readonly int most_pairs    # of queues that there can be
    cdef Terms terms
    cdef int up                     # the link, as the driver is told; atomic
    cdef Counters *received         # by pair
    cdef Counters *sent
    # Read under the lock for the time of a `put`; written with all of them kept out.
    cdef pthread_rwlock_t lock
    cdef int pairs                  # that the driver uses
    cdef ReceiveFilter filter
    cdef Steering steering
    cdef void **intakes             # by pair: an Intake that is open, or NULL

    cdef bint keeps                 # the link: what is not taken it offers again
    cdef int hurried                # even so, what a full ring cannot take is dropped; atomic
    cdef int *leads                 # by pair: who reads the link, as enum Lead; atomic
    cdef int learns                 # the steering wants to see what is sent; atomic

    # A transmit queue's worker is about to send frames, while the steering `learns`.
    cdef void learn(self, int pair, const Frame *frames, int count) noexcept nogil
    # A receive queue's worker says that its ring can be filled, or (NULL) cannot any more.
    cdef void admit(self, int pair, void *intake) noexcept nogil
    # A transmit queue's worker leaves it to the receive queue's to read the link.
    cdef void give_back(self, int pair) noexcept nogil

    cdef int hand_over(
        self, int pair, const Frame *frames, int count, const uint32_t *hashes, const uint16_t *reports
    ) noexcept nogil
    cdef int screen(
        self, int pair, const Frame *frames, int count, const uint32_t *hashes, const uint16_t *reports
    ) noexcept nogil
    cdef bint admits(self, const Frame *frame) noexcept nogil
    cdef int steer(self, const Frame *frames, int count) noexcept nogil
    cdef int steer_burst(self, const Frame *frames, int count) noexcept nogil
