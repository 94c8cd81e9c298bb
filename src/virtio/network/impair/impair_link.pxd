"""A filter that impairs frames, each direction by its own settings."""

from virtio.network.filter cimport FilterLink
from virtio.network.impair.pipe cimport Pipe


cdef class ImpairLink(FilterLink):
    cdef readonly Pipe inwards      # to the guest
    cdef readonly Pipe outwards     # from the guest
    cdef bint segments              # whether unsegmented frames may pass
