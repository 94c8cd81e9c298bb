"""What the kernel says about a file's pages and blocks, before they are touched."""

from libc.stdint cimport uint64_t

cdef enum:
    PAGE = 4096
    MOST_PAGES = 128        # that are asked about at once


# Whether every page of a mapping's part is in memory; at most MOST_PAGES of them.
cdef bint all_resident(char *start, uint64_t length) noexcept nogil
# Whether the file has blocks from `start` to `end`; also those that have no place on the medium yet.
cdef bint all_allocated(int fd, uint64_t start, uint64_t end) noexcept nogil
