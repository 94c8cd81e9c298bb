"""Frames as bytes, and their headers as dictionaries."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from virtio.network.frame cimport Frame, NetHeader


# Copy up to `length` bytes of a frame, from its start. Number of bytes.
cdef inline uint32_t copy_out(const Frame *frame, char *target, uint32_t length) noexcept nogil:
    cdef uint32_t done = 0
    cdef uint32_t size
    cdef int i
    for i in range(frame.count):
        if done == length:
            break
        size = length - done
        if frame.segments[i].iov_len < size:
            size = <uint32_t> frame.segments[i].iov_len
        memcpy(target + done, frame.segments[i].iov_base, size)
        done += size
    return done


cdef inline bytes frame_bytes(const Frame *frame):
    cdef bytes copy = PyBytes_FromStringAndSize(NULL, frame.length)
    copy_out(frame, PyBytes_AS_STRING(copy), frame.length)
    return copy


cdef inline dict header_fields(const NetHeader *header):
    return {
        "flags": header.flags,
        "gso_type": header.gso_type,
        "hdr_len": header.hdr_len,
        "gso_size": header.gso_size,
        "csum_start": header.csum_start,
        "csum_offset": header.csum_offset,
    }


# Fill a header from a dictionary with any of its fields; None: nothing is to be computed.
cdef inline int set_header(NetHeader *header, dict fields) except -1:
    memset(header, 0, sizeof(NetHeader))
    for name, value in (fields or {}).items():
        if name == "flags":
            header.flags = value
        elif name == "gso_type":
            header.gso_type = value
        elif name == "hdr_len":
            header.hdr_len = value
        elif name == "gso_size":
            header.gso_size = value
        elif name == "csum_start":
            header.csum_start = value
        elif name == "csum_offset":
            header.csum_offset = value
        else:
            raise KeyError(name)
    return 0
