"""Lets out of a guest only what comes from its own addresses."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from virtio.network.filter cimport FilterLink
from virtio.network.frame cimport Frame

cdef enum:
    MOST_ADDRESSES = 64     # of each kind
    SEEN = 512              # bytes of a frame that are looked at

cdef enum:
    IPV4 = 0x0800
    ARP = 0x0806
    RARP = 0x8035
    VLAN = 0x8100
    IPV6 = 0x86DD
    SERVICE_VLAN = 0x88A8
    OLD_SERVICE_VLAN = 0x9100

cdef enum:
    PASS = 0
    WRONG_MAC = 1
    WRONG_IP = 2
    VERDICTS = 3


cdef struct Prefix:
    uint8_t address[16]
    int length              # bytes: 4 or 16
    int bits                # that must match


cdef class AntiSpoofLink(FilterLink):
    cdef uint8_t macs[MOST_ADDRESSES][6]
    cdef int mac_count
    cdef Prefix prefixes[MOST_ADDRESSES]
    cdef int prefix_count
    cdef uint64_t refused[VERDICTS]     # atomic

    cdef void add_mac(self, bytes mac)
    cdef void add_prefix(self, object network)
    cdef int judge(self, const Frame *frame) noexcept nogil
    cdef int judge_arp(self, const uint8_t *packet, uint32_t size) noexcept nogil
    cdef int judge_ipv4(self, const uint8_t *packet, uint32_t size) noexcept nogil
    cdef int judge_ipv6(self, const uint8_t *packet, uint32_t size) noexcept nogil
    cdef int judge_icmpv6(
        self, const uint8_t *message, uint32_t size, const uint8_t *source, bint unspecified, bint part
    ) noexcept nogil
    cdef int judge_neighbour(self, const uint8_t *message, uint32_t size) noexcept nogil
    cdef bint own_mac(self, const uint8_t *address) noexcept nogil
    cdef bint own_ip(self, const uint8_t *address, int length) noexcept nogil
