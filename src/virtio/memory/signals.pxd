"""What the SIGBUS guard needs of <signal.h>, with pointers to functions that run without the GIL."""

cdef extern from "<signal.h>" nogil:
    ctypedef struct siginfo_t:
        int si_code
        void *si_addr

    ctypedef struct sigset_t:
        pass

    ctypedef void (*plain_handler)(int) noexcept nogil
    ctypedef void (*full_handler)(int, siginfo_t *, void *) noexcept nogil

    cdef struct action "sigaction":
        plain_handler sa_handler        # a union with the next
        full_handler sa_sigaction
        sigset_t sa_mask
        int sa_flags

    plain_handler SIG_DFL
    plain_handler SIG_IGN
    const int SIGBUS
    const int SA_SIGINFO
    const int SA_ONSTACK
    const int BUS_ADRERR            # no page there (beyond the file's end), or it could not be read
    const int BUS_OBJERR

    int sigaction(int, const action *, action *)
    int raise_signal "raise"(int)

cdef extern from "<errno.h>" nogil:
    int *errno_location "__errno_location"()
