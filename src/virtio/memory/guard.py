"""The SIGBUS guard: what happens when a mapped file shrinks under us.

Touching a page of a mapping beyond the file's end, or one whose block cannot be read, raises SIGBUS and
would end the process. The handler here looks the address up among the registered mappings; in one of them
it puts a page of zeros in the place of the lost one, sets that mapping's flag and lets the instruction
run again. Whoever works on the mapping checks the flag when a batch is done. A SIGBUS anywhere else goes to
the handler that was there before.

The handler may interrupt anything on any thread, so it takes no lock, allocates nothing and touches no
Python object. Entries live in a list that only grows; each carries a version that is odd while it changes.
"""

import cython
from cython.cimports.libc.errno import errno
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import calloc
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    mmap,
)
from cython.cimports.virtio.memory.atomic import (
    ACQUIRE,
    RELAXED,
    RELEASE,
    SEQ_CST,
    add_int,
    fence,
    load_pointer,
    load_u64,
    store_int,
    store_pointer,
    store_u64,
)
from cython.cimports.virtio.memory.signals import (
    BUS_ADRERR,
    BUS_OBJERR,
    SA_ONSTACK,
    SA_SIGINFO,
    SIG_DFL,
    SIG_IGN,
    SIGBUS,
    action,
    errno_location,
    raise_signal,
    sigaction,
    siginfo_t,
)

_first = cython.declare(cython.pointer[Guard], cython.NULL)
_losses = cython.declare(cython.int, 0)
_passed_on = cython.declare(cython.int, 0)
_previous = cython.declare(action)


def guard_losses() -> cython.pointer[cython.const[cython.int]]:
    return cython.address(_losses)


def guard_register(
    base: cython.p_void, length: uint64_t, page: uint64_t, flag: cython.pointer[cython.int]
) -> cython.pointer[Guard]:
    """Guard a mapping. Installs the handler if another one is in its place."""
    _install()
    guard: cython.pointer[Guard] = _spare()
    store_u64(cython.address(guard.version), guard.version + 1, SEQ_CST)
    fence(SEQ_CST)
    guard.base = cython.cast(uint64_t, base)
    guard.length = length
    guard.page = page
    guard.flag = flag
    store_u64(cython.address(guard.version), guard.version + 1, RELEASE)
    return guard


def guard_release(guard: cython.pointer[Guard]) -> cython.void:
    """Stop guarding; to be called before the memory is unmapped."""
    store_u64(cython.address(guard.version), guard.version + 1, SEQ_CST)
    fence(SEQ_CST)
    guard.length = 0
    store_u64(cython.address(guard.version), guard.version + 1, RELEASE)


@cython.cfunc
def _spare() -> cython.pointer[Guard]:
    """A free entry, else a new one at the head of the list."""
    global _first
    guard: cython.pointer[Guard] = _first
    while guard != cython.NULL:
        if guard.length == 0:
            return guard
        guard = guard.next
    guard = cython.cast(cython.pointer[Guard], calloc(1, cython.sizeof(Guard)))
    if guard == cython.NULL:
        raise MemoryError
    guard.next = _first
    head = cython.cast(cython.pointer[cython.p_void], cython.address(_first))
    store_pointer(head, cython.cast(cython.p_void, guard), RELEASE)
    return guard


@cython.cfunc
@cython.exceptval(-1)
def _install() -> cython.int:
    """Make ours the handler of SIGBUS; what is there now comes after it."""
    global _previous
    current: action
    wanted: action
    sigaction(SIGBUS, cython.NULL, cython.address(current))
    if current.sa_flags & SA_SIGINFO and current.sa_sigaction == _on_bus_error:
        return 0
    _previous = current
    store_int(cython.address(_passed_on), 0, RELAXED)
    wanted = current
    wanted.sa_flags = SA_SIGINFO | SA_ONSTACK
    wanted.sa_sigaction = _on_bus_error
    if sigaction(SIGBUS, cython.address(wanted), cython.NULL) != 0:
        raise OSError(errno, "cannot install the SIGBUS handler")
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _on_bus_error(number: cython.int, info: cython.pointer[siginfo_t], context: cython.p_void) -> cython.void:
    """Handle SIGBUS. Only what is async-signal-safe happens here."""
    saved: cython.int = errno_location()[0]
    if (info.si_code != BUS_ADRERR and info.si_code != BUS_OBJERR) or not _replace(
        cython.cast(uint64_t, info.si_addr)
    ):
        _pass_on(number, info, context)
    errno_location()[0] = saved


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _replace(address: uint64_t) -> cython.bint:
    """Put zeros where the page of ``address`` was. False if no registered mapping has that address."""
    guard: cython.pointer[Guard] = cython.cast(
        cython.pointer[Guard],
        load_pointer(cython.cast(cython.pointer[cython.p_void], cython.address(_first)), ACQUIRE),
    )
    while guard != cython.NULL:
        version: uint64_t = load_u64(cython.address(guard.version), ACQUIRE)
        base: uint64_t = guard.base
        page: uint64_t = guard.page
        flag: cython.pointer[cython.int] = guard.flag
        inside: cython.bint = address - base < guard.length
        fence(ACQUIRE)
        if inside and version % 2 == 0 and version == load_u64(cython.address(guard.version), RELAXED):
            # Flag first: whoever reads the zeros must be able to see that they are not the file's.
            store_int(flag, 1, SEQ_CST)
            add_int(cython.address(_losses), 1, SEQ_CST)
            place: uint64_t = address - address % page
            return (
                mmap(
                    cython.cast(cython.p_void, place),
                    page,
                    PROT_READ | PROT_WRITE,
                    MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
                    -1,
                    0,
                )
                != MAP_FAILED
            )
        guard = guard.next
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pass_on(number: cython.int, info: cython.pointer[siginfo_t], context: cython.p_void) -> cython.void:
    """Let the earlier handler have it; a second time round the default, lest two handlers play ball."""
    wanted: action = _previous
    again: cython.bint = add_int(cython.address(_passed_on), 1, RELAXED) != 0
    if wanted.sa_flags & SA_SIGINFO and not again:
        wanted.sa_sigaction(number, info, context)
        store_int(cython.address(_passed_on), 0, RELAXED)
        return
    if wanted.sa_handler == SIG_IGN or again:
        wanted.sa_handler = SIG_DFL
        wanted.sa_flags = 0
    sigaction(number, cython.address(wanted), cython.NULL)
    # A real fault happens again when the instruction is run again; a signal that was sent does not.
    if info.si_code <= 0:
        raise_signal(number)
