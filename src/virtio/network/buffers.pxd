"""Frames that Python has, put into a sink."""

from virtio.network.link cimport Sink


cpdef int put_buffers(Sink sink, object frames, int queue=*, object header=*) except -1
