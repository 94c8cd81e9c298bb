"""What both ends of a NIC agreed on, its header on the wire, and what is counted."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.uio cimport iovec

from virtio.memory.atomic cimport RELAXED, add_u64, load_u32
from virtio.network.frame cimport (
    DATA_VALID,
    GSO_NONE,
    LONGEST_FRAME,
    NEEDS_CSUM,
    RSC_INFO,
    Frame,
    NetHeader,
)
from virtio.network.offload cimport copy_out

cdef extern from * nogil:
    uint16_t swap_u16 "__builtin_bswap16"(uint16_t)
    uint32_t swap_u32 "__builtin_bswap32"(uint32_t)

cdef enum:
    SHORT_HEADER = 10       # bytes: legacy, without MRG_RXBUF
    PLAIN_HEADER = 12       # with num_buffers
    HASH_HEADER = 20        # with HASH_REPORT
    SHORTEST_FRAME = 14     # bytes: an Ethernet header


cdef struct Terms:
    # Changes while the queues are stopped, except what is atomic.
    int header              # bytes before each frame
    bint mergeable          # a frame may span several buffers
    uint32_t last_word      # the third of the header's words, where nothing is left to be done and it has 12 bytes
    bint joins              # it is told of how many segments a long frame consists (RSC_EXT)
    bint swap               # the header's fields are not in the machine's order
    int sends               # what the driver may leave unfinished, as bits of Takes
    int takes               # what it takes unfinished; atomic
    uint32_t longest        # bytes of a finished frame without VLAN tags; atomic


cdef enum Drop:             # why a frame was dropped
    RUNT                    # shorter than an Ethernet header
    GIANT                   # longer than any frame, than the MTU allows, or than the receive buffers
    HEADER                  # a virtio header that makes no sense or was not negotiated
    OFFLOAD                 # headers that do not fit what is left to be done
    FILTERED
    DOWN                    # the link is
    FULL                    # nobody had room
    DROPS


cdef struct Counters:
    # Of one queue; each atomic.
    uint64_t frames         # handed on
    uint64_t bytes          # of them, without the virtio header
    uint64_t partial        # of them with NEEDS_CSUM
    uint64_t segmented      # of them with a GSO type
    uint64_t segmented_bytes
    uint64_t valid          # of them with DATA_VALID
    uint64_t joined         # of them made of several that came
    uint64_t joined_bytes
    # What a driver sent, finished or not.
    uint64_t sent           # frames that made sense
    uint64_t unsummed       # of them with NEEDS_CSUM
    uint64_t cut            # of them those that were cut here
    uint64_t cut_bytes
    uint64_t pieces         # that they were cut into
    uint64_t piece_bytes
    uint64_t dropped[DROPS]


cdef inline void count_drops(Counters *counters, Drop reason, uint64_t number) noexcept nogil:
    add_u64(&counters.dropped[<int>reason], number, RELAXED)


cdef inline void tally(Counters *sum, const Frame *frame) noexcept nogil:
    """Count a frame in a sum of one's own."""
    sum.frames += 1
    sum.bytes += frame.length
    if frame.header.flags:
        sum.partial += frame.header.flags & NEEDS_CSUM
        sum.valid += frame.header.flags >> 1 & 1  # DATA_VALID
    if frame.header.gso_type != GSO_NONE:
        sum.segmented += 1
        sum.segmented_bytes += frame.length


cdef inline void add_count(uint64_t *counter, uint64_t number) noexcept nogil:
    if number != 0:
        add_u64(counter, number, RELAXED)


cdef inline void settle(Counters *counters, Counters *sum) noexcept nogil:
    """Add a sum of one's own, and begin another."""
    if sum.frames == 0:
        return
    add_u64(&counters.frames, sum.frames, RELAXED)
    add_u64(&counters.bytes, sum.bytes, RELAXED)
    add_count(&counters.partial, sum.partial)
    add_count(&counters.valid, sum.valid)
    if sum.joined != 0:
        add_u64(&counters.joined, sum.joined, RELAXED)
        add_u64(&counters.joined_bytes, sum.joined_bytes, RELAXED)
        sum.joined = sum.joined_bytes = 0
    if sum.segmented != 0:
        add_u64(&counters.segmented, sum.segmented, RELAXED)
        add_u64(&counters.segmented_bytes, sum.segmented_bytes, RELAXED)
    sum.frames = sum.bytes = sum.partial = sum.valid = sum.segmented = sum.segmented_bytes = 0


cdef inline void settle_sent(Counters *counters, Counters *sum) noexcept nogil:
    """The same of what a driver sent."""
    add_count(&counters.sent, sum.sent)
    add_count(&counters.unsummed, sum.unsummed)
    if sum.cut != 0:
        add_u64(&counters.cut, sum.cut, RELAXED)
        add_u64(&counters.cut_bytes, sum.cut_bytes, RELAXED)
        add_u64(&counters.pieces, sum.pieces, RELAXED)
        add_u64(&counters.piece_bytes, sum.piece_bytes, RELAXED)
    sum.sent = sum.unsummed = sum.cut = sum.cut_bytes = sum.pieces = sum.piece_bytes = 0
    settle(counters, sum)


cdef inline bint too_long(const Terms *terms, const Frame *frame) noexcept nogil:
    """Is a frame longer than the driver and the link agreed on?

    What is still to be cut may be as long as any; a VLAN tag, or two, are not part of what the MTU limits.
    """
    cdef uint32_t longest = load_u32(&terms.longest, RELAXED)
    if frame.length <= longest:
        return False
    return frame.length > LONGEST_FRAME or (
        frame.header.gso_type == GSO_NONE and frame.length > longest + tag_bytes(frame)
    )


cdef inline uint32_t tag_bytes(const Frame *frame) noexcept nogil:
    """Bytes of the VLAN tags of a frame of more than 68 bytes, two at most."""
    cdef uint8_t head[18]
    copy_out(frame, 0, <char *>head, 18)
    if not is_tag(head + 12):
        return 0
    return 8 if is_tag(head + 16) else 4


cdef inline bint is_tag(const uint8_t *ethertype) noexcept nogil:
    """802.1Q or 802.1ad."""
    return (ethertype[0] == 0x81 and ethertype[1] == 0) or (ethertype[0] == 0x88 and ethertype[1] == 0xA8)


cdef struct WireHeader:
    # struct virtio_net_hdr, as long as it can be here
    uint8_t flags
    uint8_t gso_type
    uint16_t hdr_len
    uint16_t gso_size
    uint16_t csum_start
    uint16_t csum_offset
    uint16_t num_buffers
    uint32_t hash_value
    uint16_t hash_report
    uint16_t padding


cdef inline void swap_header(WireHeader *header) noexcept nogil:
    header.hdr_len = swap_u16(header.hdr_len)
    header.gso_size = swap_u16(header.gso_size)
    header.csum_start = swap_u16(header.csum_start)
    header.csum_offset = swap_u16(header.csum_offset)
    header.num_buffers = swap_u16(header.num_buffers)
    header.hash_value = swap_u32(header.hash_value)
    header.hash_report = swap_u16(header.hash_report)


cdef inline void make_header(
    WireHeader *wire, const Terms *terms, int takes, const Frame *frame, uint32_t buffers
) noexcept nogil:
    """Write what precedes a frame in the driver's buffers."""
    memset(wire, 0, sizeof(WireHeader))
    memcpy(wire, &frame.header, sizeof(NetHeader))
    # 1 is TAKES_CSUM: without it a driver expects no flags (virtio 1.4, Packet Receive: GUEST_CSUM).
    wire.flags &= (NEEDS_CSUM | DATA_VALID | (RSC_INFO if terms.joins else 0)) if takes & 1 else 0
    wire.num_buffers = <uint16_t>buffers
    if terms.swap:
        swap_header(wire)


cdef struct Spot:
    # A place in a row of segments.
    const iovec *segment
    size_t offset           # bytes into it


cdef inline void copy_on(Spot *target, Spot *source, size_t length) noexcept nogil:
    """Copy bytes from segments to segments, and move both places on; they are known to hold so much."""
    cdef size_t run, room
    while length != 0:
        run = target.segment.iov_len - target.offset
        room = source.segment.iov_len - source.offset
        if run > room:
            run = room
        if run > length:
            run = length
        memcpy(<char *>target.segment.iov_base + target.offset,
               <char *>source.segment.iov_base + source.offset, run)
        target.offset += run
        source.offset += run
        length -= run
        if target.offset == target.segment.iov_len:
            target.segment += 1
            target.offset = 0
        if source.offset == source.segment.iov_len:
            source.segment += 1
            source.offset = 0
