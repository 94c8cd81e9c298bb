"""The two ends of a virtqueue, whichever ring it is made of: what `split` and `packed` implement.

    device side   disable_notifications -> take -> (act) -> give -> publish -> notify if told to
                  nothing left: enable_notifications -> sleep, unless it says more has come
    driver side   add -> publish -> kick if told to; reap

Everything here runs without the GIL. One thread at a time uses a queue; there are no locks.
"""

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from posix.uio cimport iovec

from virtio.memory.atomic cimport prefetch, prefetch_write
from virtio.memory.table cimport GuestMemory, Region, Table, locate, log_write


cdef enum RingFault:
    # Why a queue stopped; negative so that a count and a fault share one return value.
    # errors.RING_FAULTS maps each to its exception class.
    RING_OK = 0
    RING_INDEX_JUMP = -1            # avail index ran ahead by more than the queue's size
    RING_HEAD_BEYOND_SIZE = -2      # a head or next index at or above the queue's size
    RING_LOOP = -3                  # the chain visits more descriptors than there can be
    RING_INDIRECT_NOT_NEGOTIATED = -4
    RING_INDIRECT_NESTED = -5       # an indirect table inside an indirect table
    RING_INDIRECT_WITH_NEXT = -6
    RING_INDIRECT_SIZE = -7         # an indirect table of zero bytes or not a multiple of 16
    RING_ADDRESS = -8               # outside guest memory
    RING_ADDRESS_WRAPS = -9         # address plus length passes 2**64
    RING_LENGTH_ZERO = -10
    RING_LENGTH_OVERFLOW = -11      # a chain's bytes pass 2**32
    RING_ORDER = -12                # a device-readable descriptor after a device-writable one
    RING_TOO_MANY_OUTSTANDING = -13 # more chains made available than the queue has descriptors
    RING_EMPTY_CHAIN = -14
    RING_PACKED_TRUNCATED = -15     # a packed chain runs into a descriptor that is not available
    RING_MEMORY_GONE = -16          # the memory under the ring or a buffer vanished (truncated file)
    RING_IOTLB_MISS = -17           # not a fault: address not yet translated; nothing was consumed
    RING_NO_MEMORY = -18            # this process could not allocate a chain
    # What a device can do wrong, seen by the driver.
    RING_USED_JUMP = -32            # more was used than is outstanding
    RING_USED_ID = -33              # a chain was used that is not outstanding, or not its turn
    RING_USED_LENGTH = -34          # more was written than the chain could hold


cdef enum:
    LINE = 64               # bytes of a cache line
    INLINE_SEGMENTS = 8     # enough for nearly every chain without another allocation
    CHAIN_BLOCK = 32        # chains allocated at once
    # A chain may not be longer than the queue (virtio 1.4, 2.7.5.3.1), yet Linux fills indirect tables with as
    # many buffers as the device's limits allow, whatever the queue's size. So a table may have this many, as
    # everywhere else.
    LONGEST_TABLE = 1024

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef extern from *:
    """
    #define VIRTIO_LONGEST_CHAIN (1ULL << 32)
    """
    const uint64_t LONGEST_CHAIN "VIRTIO_LONGEST_CHAIN"     # bytes


cdef struct Chain:
    # A chain with one segment is in the first cache line as a whole.
    iovec *segments         # `readable` of them the device reads, then `writable` it writes
    Chain *next                 # free list, or order of taking while outstanding
    uint32_t readable
    uint32_t writable
    uint64_t readable_length    # bytes
    uint64_t writable_length    # bytes
    uint16_t id                 # split: head descriptor; packed: buffer id
    uint16_t slots              # ring descriptors it occupies
    uint32_t written            # bytes the device wrote (set by give)
    iovec inline_segments[INLINE_SEGMENTS]
    uint32_t capacity           # of segments
    bint given                  # with IN_ORDER: completed, waiting for its turn
    uint64_t padding            # to whole cache lines


cdef struct ChainBlock:
    Chain chains[CHAIN_BLOCK]
    ChainBlock *next


cdef class DeviceQueue:
    """The device's end. Subclasses: split.SplitDeviceQueue, packed.PackedDeviceQueue."""
    cdef readonly uint32_t size
    cdef readonly bint event_idx
    cdef readonly bint in_order
    cdef readonly bint indirect
    cdef readonly GuestMemory memory
    cdef readonly tuple areas   # guest addresses of the descriptor, driver and device area
    cdef Table *table           # &memory.table
    cdef list former            # memories replaced while chains of theirs were outstanding
    cdef readonly uint32_t outstanding  # chains taken and not yet given
    cdef Chain *free            # recycled chains, most recently used first
    cdef ChainBlock *blocks     # all chains there are
    cdef Chain *oldest          # with IN_ORDER: outstanding chains in the order of taking
    cdef Chain *newest
    cdef uint32_t early         # with IN_ORDER: chains given before their turn
    cdef int fault              # RingFault of the chain that stopped this queue, else 0
    cdef uint64_t fault_detail  # the offending index, address or length
    cdef bint missing           # the last take met an address that the I/O TLB lacks: fault_detail
    cdef bint missing_write     # it is to be written

    # Cheap: has the driver made anything available that was not taken?
    cdef bint available(self) noexcept nogil
    # Take up to `limit` chains. Number taken (0: none available) or a RingFault, after which only
    # give and publish may be called. Chains taken before the malformed one are returned first.
    cdef int take(self, Chain **chains, int limit) noexcept nogil
    # The last `count` chains taken, in order, were not used: they are to be taken again.
    cdef void put_back(self, Chain **chains, int count) noexcept nogil
    # Put a chain on the used ring, not yet visible to the driver. `written` bytes of its writable part
    # were written. The chain is the queue's again.
    cdef void give(self, Chain *chain, uint32_t written) noexcept nogil
    # The same of several, in their order, each `written` as it says itself: zero, unless it was set.
    cdef void give_row(self, Chain **chains, int count) noexcept nogil
    # Make everything given visible. True if the driver asked to be notified of it.
    cdef bint publish(self) noexcept nogil
    # Ask the driver for notifications. True if something is available already (so: do not sleep).
    cdef bint enable_notifications(self) noexcept nogil
    cdef void disable_notifications(self) noexcept nogil

    # Find the ring areas in a memory; called at construction and when the memory changes.
    cdef int attach(self, GuestMemory memory) except -1
    # Shared by both kinds; the inline functions below do the same at no call's cost.
    cdef Chain *new_chain(self) noexcept nogil          # NULL when out of memory
    cdef void recycle(self, Chain *chain) noexcept nogil
    # Append guest bytes as one or more segments, translated and checked. 0 or a RingFault.
    cdef int append(self, Chain *chain, uint64_t address, uint32_t length, bint writable) noexcept nogil
    # Where guest bytes are, and how many of them lie there together; NULL if they may not be read.
    @cython.final
    cdef char *readable_run(self, uint64_t address, uint64_t length, uint64_t *run) noexcept nogil
    # Copy guest bytes that may lie in several regions. 0 or a RingFault.
    @cython.final
    cdef int gather(self, uint64_t address, char *copy, uint64_t length) noexcept nogil
    # With IN_ORDER: cut those beyond `outstanding` off the list of outstanding chains.
    cdef void forget_newest(self) noexcept nogil
    # Stop for good: remember why and return it. An I/O TLB miss is remembered but stops nothing.
    cdef int stop(self, int fault, uint64_t detail) noexcept nogil


@cython.final
cdef class PoppedChain:
    """A chain as Python sees it, from pop to push."""
    cdef DeviceQueue queue
    cdef GuestMemory memory     # the queue may have been given another since
    cdef Chain *chain           # NULL once pushed

    cdef Chain *_held(self) except NULL
    cdef object _views(self, uint32_t first, uint32_t count, bint writable)


cdef Chain *more_chains(DeviceQueue queue) noexcept nogil
cdef int grow_segments(Chain *chain) noexcept nogil
# Where a ring area of `length` bytes is in this process. Raises RingAreaError.
cdef char *ring_area(
    GuestMemory memory, uint64_t address, uint64_t length, uint64_t alignment, bint writable, str name
) except NULL


cdef inline Chain *chain_new(DeviceQueue queue) noexcept nogil:
    """An empty chain, or NULL when out of memory."""
    cdef Chain *chain = queue.free
    if chain == NULL:
        chain = more_chains(queue)
        if chain == NULL:
            return NULL
    queue.free = chain.next
    chain.next = NULL
    chain.readable = 0
    chain.writable = 0
    chain.readable_length = 0
    chain.writable_length = 0
    chain.written = 0
    return chain


cdef inline void chain_recycle(DeviceQueue queue, Chain *chain) noexcept nogil:
    """Put a chain that nobody uses any more back on the free list."""
    chain.next = queue.free
    queue.free = chain


cdef inline void chain_log(DeviceQueue queue, const Chain *chain) noexcept nogil:
    """Record a finished chain's writable segments in the dirty log.

    All of them, not only `written` bytes: that number is a promise of a minimum.
    """
    cdef uint32_t i
    if queue.table.log != NULL:
        for i in range(chain.readable, chain.readable + chain.writable):
            log_write(queue.table, <char *>chain.segments[i].iov_base, chain.segments[i].iov_len)


cdef inline void chain_queue_up(DeviceQueue queue, Chain *chain) noexcept nogil:
    """With IN_ORDER: remember that a chain was taken after all the others that are outstanding."""
    if queue.oldest == NULL:
        queue.oldest = chain
    else:
        queue.newest.next = chain
    queue.newest = chain


cdef inline Chain *chain_in_turn(DeviceQueue queue, Chain *chain) noexcept nogil:
    """With IN_ORDER: a chain that is given, or NULL if it has to wait for older ones."""
    if chain != queue.oldest:
        chain.given = True
        queue.early += 1
        return NULL
    queue.oldest = chain.next
    return chain


cdef inline Chain *chain_that_waited(DeviceQueue queue) noexcept nogil:
    """With IN_ORDER: a chain that was given and whose turn has come, or NULL."""
    cdef Chain *chain
    if queue.early == 0 or not queue.oldest.given:
        return NULL
    chain = queue.oldest
    chain.given = False
    queue.early -= 1
    queue.oldest = chain.next
    return chain


cdef inline int chain_segment(Chain *chain, char *host, uint64_t length, bint writable) noexcept nogil:
    """Append bytes of this process, joined to the last segment if they follow it. 0 or RING_NO_MEMORY."""
    cdef uint32_t count = chain.readable + chain.writable
    cdef iovec *last
    if count != 0 and (not writable or chain.writable != 0):
        last = &chain.segments[count - 1]
        if <char *>last.iov_base + last.iov_len == host:
            last.iov_len += length
            return RING_OK
    if count == chain.capacity and grow_segments(chain) != 0:
        return RING_NO_MEMORY
    chain.segments[count].iov_base = host
    chain.segments[count].iov_len = length
    if writable:
        chain.writable += 1
    else:
        chain.readable += 1
    return RING_OK


cdef inline void bring_nearer(const Table *table, uint64_t address) noexcept nogil:
    """Have the cache line at a guest address fetched, if there is one: it is wanted soon."""
    cdef Region *region = locate(table, address)
    if region != NULL:
        prefetch(region.host + (address - region.guest))


cdef inline void bring_chain_nearer(const Chain *chain) noexcept nogil:
    """Have the start of a chain that was just taken fetched, the way it will be used."""
    if chain.readable != 0:
        prefetch(chain.segments[0].iov_base)
    else:
        prefetch_write(chain.segments[0].iov_base)


cdef inline int chain_append(
    DeviceQueue queue, Chain *chain, uint64_t address, uint32_t length, bint writable
) noexcept nogil:
    """Append guest bytes as one or more segments, translated and checked. 0 or what `stop` made of it."""
    cdef Region *region
    cdef uint64_t offset, run, left = length
    cdef int fault
    if length == 0:
        return queue.stop(RING_LENGTH_ZERO, address)
    if address + (left - 1) < address:
        return queue.stop(RING_ADDRESS_WRAPS, address)
    if writable:
        chain.writable_length += left
    elif chain.writable != 0:
        return queue.stop(RING_ORDER, address)
    else:
        chain.readable_length += left
    if chain.readable_length + chain.writable_length > LONGEST_CHAIN:
        return queue.stop(RING_LENGTH_OVERFLOW, chain.readable_length + chain.writable_length)
    while left != 0:
        region = locate(queue.table, address)
        if region == NULL or not (region.writable if writable else region.readable):
            queue.missing_write = writable
            return queue.stop(RING_IOTLB_MISS if queue.table.iotlb else RING_ADDRESS, address)
        offset = address - region.guest
        run = region.size - offset
        if run > left:
            run = left
        fault = chain_segment(chain, region.host + offset, run, writable)
        if fault != RING_OK:
            return queue.stop(fault, run)
        address += run
        left -= run
    return RING_OK


cdef inline bint chain_single(
    DeviceQueue queue, Chain *chain, uint64_t address, uint32_t length, bint writable
) noexcept nogil:
    """Fill an empty chain with its only buffer, which nearly always lies in one region.

    False if it does not, or may not: `chain_append` is to cut it, or to say why.
    """
    cdef Region *region = locate(queue.table, address)
    cdef uint64_t offset
    if region == NULL or length == 0:
        return False
    offset = address - region.guest
    if length > region.size - offset or not (region.writable if writable else region.readable):
        return False
    chain.segments[0].iov_base = region.host + offset
    chain.segments[0].iov_len = length
    if writable:
        chain.writable = 1
        chain.writable_length = length
    else:
        chain.readable = 1
        chain.readable_length = length
    return True


cdef struct Buffer:
    uint64_t address        # as the device will see it
    uint32_t length         # bytes


cdef struct Completion:
    uint64_t token          # what add was given
    uint32_t written        # bytes, as the device says


cdef class DriverQueue:
    """The driver's end. Subclasses: split.SplitDriverQueue, packed.PackedDriverQueue."""
    cdef readonly uint32_t size
    cdef readonly bint event_idx
    cdef readonly bint in_order
    cdef readonly bint indirect
    cdef readonly uint32_t free_descriptors
    cdef readonly uint32_t outstanding      # chains added and not yet reaped
    cdef readonly GuestMemory memory
    cdef readonly tuple areas   # guest addresses of the descriptor, driver and device area
    cdef int fault              # what the device did wrong, else 0
    cdef uint64_t fault_detail

    # Offer a chain: `readable` buffers, then `writable` ones. 0, or -ENOSPC when the ring is full,
    # -EINVAL for an empty chain or one longer than the queue. Not visible to the device before publish.
    cdef int add(self, const Buffer *buffers, int readable, int writable, uint64_t token) noexcept nogil
    # Make everything added visible. True if the device wants a notification.
    cdef bint publish(self) noexcept nogil
    # Collect up to `limit` finished chains. Their number, or a negative RING_USED_... or RING_MEMORY_GONE.
    cdef int reap(self, Completion *completions, int limit) noexcept nogil
    # Cheap: has the device finished anything?
    cdef bint finished(self) noexcept nogil
    # Ask the device for notifications; True if something finished meanwhile.
    cdef bint enable_notifications(self) noexcept nogil
    cdef void disable_notifications(self) noexcept nogil
    # What to write with a NOTIFICATION_DATA notification (virtio 1.4, 2.9 / transport chapters).
    cdef uint32_t notification_data(self, uint16_t index) noexcept nogil
    # Stop for good: remember why and return it.
    cdef int stop(self, int fault, uint64_t detail) noexcept nogil


cdef inline bint need_event(uint16_t event, uint16_t new, uint16_t old) noexcept nogil:
    """Did the index pass `event` on its way from `old` to `new`? (virtio 1.4, 2.7.7 and 2.7.10; modulo 2**16)"""
    return <uint16_t>(new - event - 1) < <uint16_t>(new - old)
