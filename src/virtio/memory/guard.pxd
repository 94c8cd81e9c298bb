"""The SIGBUS guard: a page of a mapped file that vanishes becomes a zero page and raises a flag."""

from libc.stdint cimport uint64_t


cdef struct Guard:
    Guard *next         # never unlinked; an entry of length 0 is free for another use
    uint64_t version    # odd while the entry is being changed
    uint64_t base       # first address guarded
    uint64_t length     # bytes; 0 when the entry is free
    uint64_t page       # bytes replaced at once: the page size of the mapping
    int *flag           # set to 1 when a page of this mapping was replaced


# Guard `length` bytes at `base`, mapped with pages of `page` bytes. The flag must stay valid until
# guard_release. Both with the GIL held.
cdef Guard *guard_register(void *base, uint64_t length, uint64_t page, int *flag) except NULL
cdef void guard_release(Guard *guard) noexcept
# How many pages this process has lost so far: where it is kept, for a cheap first look.
cdef const int *guard_losses() noexcept nogil
