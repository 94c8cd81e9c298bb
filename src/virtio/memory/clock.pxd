"""Clocks, for code that runs without the GIL."""

from libc.stdint cimport int64_t
from posix.time cimport clock_gettime, timespec

cdef enum:
    SECOND = 1000000000     # nanoseconds


# Nanoseconds of the clock.
cdef inline int64_t read_clock(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t> now.tv_sec * SECOND + now.tv_nsec
