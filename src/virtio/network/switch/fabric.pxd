"""The switch itself: a learning switch between any number of links, in one process."""

from libc.stdint cimport uint64_t

from virtio.network.link cimport Link
from virtio.network.switch.forwarding cimport Forwarder, Snapshot
from virtio.network.switch.vlan cimport Rules


cdef class Switch(Forwarder):
    cdef readonly str name
    cdef list slots             # Port or None, by number
    cdef object changing        # a lock: one thread changes the ports

    cdef int refuse_inside(self) except -1
    cdef int replace(self) except -1
    cdef int fill(self, Snapshot *snapshot) except -1


cdef class Port(Link):
    cdef readonly Switch switch
    cdef readonly object settings   # PortSettings
    cdef readonly str port_name
    cdef readonly int number        # -1: closed
    # The settings as a Member has them.
    cdef Rules rules
    cdef bint isolated
    cdef bint monitor
    cdef uint64_t storm
    cdef uint64_t *counters         # ALL_COUNTERS, aligned
