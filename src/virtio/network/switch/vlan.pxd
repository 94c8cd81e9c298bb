"""What VLAN a frame belongs to (IEEE 802.1Q), and its header as it leaves: the payload is never copied.

The first bytes of a frame are read once and kept: a guest may write its memory again while we look. Where VLANs
matter the frame leaves with the bytes that were looked at.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.uio cimport iovec

from virtio.network.frame cimport GSO_NONE, LONGEST_FRAME, NEEDS_CSUM, Frame, NetHeader

cdef enum:
    ETHERNET = 14           # bytes of an Ethernet header
    TAGGED = 18             # the same with a tag
    TPID = 0x8100
    PLAIN_VLAN = 1          # of ports without any VLAN setting


cdef struct Head:           # a frame's first bytes, copied
    uint8_t bytes[TAGGED]
    bint tagged             # has an 802.1Q tag
    uint16_t tci            # of that tag: priority, drop eligible, VLAN
    uint16_t inside         # EtherType after the tag; the only one of an untagged frame
    uint64_t to             # destination address
    uint64_t by             # source address


cdef struct Rules:          # a port's VLANs
    bint plain              # no VLAN setting: tags are payload, only other plain ports see them
    bint trunk              # sends and takes tagged frames
    uint16_t native         # VLAN of frames without a tag, both ways; 0: none
    uint64_t members[64]    # VLANs that it belongs to, a bit each


cdef struct Membership:     # where a frame belongs
    uint16_t vlan
    bint opaque             # came in at a plain port with a tag of its own, which is payload


cdef inline bint member(const Rules *rules, uint16_t vlan) noexcept nogil:
    return (rules.members[vlan >> 6] >> (vlan & 63)) & 1


cdef inline uint64_t address_at(const uint8_t *place) noexcept nogil:
    cdef uint32_t high = (<uint32_t>place[0] << 8) | place[1]
    cdef uint32_t low = ((<uint32_t>place[2] << 24) | (<uint32_t>place[3] << 16)
                         | (<uint32_t>place[4] << 8) | place[5])
    return (<uint64_t>high << 32) | low


cdef inline bint is_group(uint64_t address) noexcept nogil:
    """Whether it is many stations': multicast or broadcast."""
    return (address >> 40) & 1


cdef inline bint is_reserved(uint64_t address) noexcept nogil:
    """Whether it is for switches themselves: 01:80:C2:00:00:00 to :0F (802.1Q, 8.6.3)."""
    return address >> 4 == 0x0180C200000ULL


cdef inline uint32_t gather_head(const Frame *frame, uint8_t *head) noexcept nogil:
    """Copy up to 18 bytes from a frame's segments; how many there were."""
    cdef uint32_t have = 0
    cdef uint32_t part
    cdef int i
    for i in range(frame.count):
        part = TAGGED - have
        if frame.segments[i].iov_len < part:
            part = <uint32_t>frame.segments[i].iov_len
        memcpy(head + have, frame.segments[i].iov_base, part)
        have += part
        if have == TAGGED:
            break
    return have


cdef inline bint read_head(const Frame *frame, Head *head) noexcept nogil:
    """Copy and take apart the Ethernet header; False for a frame that has none, or a wrong length."""
    cdef uint32_t have
    if frame.length < ETHERNET or frame.count < 1:
        return False
    if frame.segments[0].iov_len >= TAGGED:
        memcpy(head.bytes, frame.segments[0].iov_base, TAGGED)
        have = TAGGED
    else:
        have = gather_head(frame, head.bytes)
    if have < ETHERNET:
        return False
    head.to = address_at(head.bytes)
    head.by = address_at(head.bytes + 6)
    head.inside = (<uint16_t>head.bytes[12] << 8) | head.bytes[13]
    head.tagged = head.inside == TPID
    if head.tagged:
        if have < TAGGED:
            return False
        head.tci = (<uint16_t>head.bytes[14] << 8) | head.bytes[15]
        head.inside = (<uint16_t>head.bytes[16] << 8) | head.bytes[17]
    return True


cdef inline bint enter_vlan(const Rules *rules, const Head *head, Membership *found) noexcept nogil:
    """Say to which VLAN a frame belongs that came in at a port; False: the port does not take it."""
    cdef uint16_t vlan = head.tci & 0xFFF if head.tagged else 0
    found.opaque = False
    if rules.plain:
        found.vlan = PLAIN_VLAN
        found.opaque = vlan != 0
        return True
    if vlan == 0:
        # What a priority tag hides would be a tag of its own once that is gone.
        found.vlan = rules.native
        return rules.native != 0 and not (head.tagged and head.inside == TPID)
    found.vlan = vlan
    return rules.trunk and vlan != 0xFFF and member(rules, vlan)


cdef inline bint leaves(const Rules *rules, const Head *head, const Membership *found) noexcept nogil:
    """Whether a port may send a frame."""
    if found.opaque:
        return rules.plain
    if not member(rules, found.vlan):
        return False
    # Without its outer tag, the inner one would name a VLAN that nobody checked.
    return not (rules.trunk and found.vlan == rules.native and head.inside == TPID)


cdef inline bint shift_header(NetHeader *header, int by) noexcept nogil:
    """Move what a header says of places by so many bytes; False if that cannot be."""
    if header.flags & NEEDS_CSUM:
        if header.csum_start + by < ETHERNET or header.csum_start + by > 0xFFFF:
            return False
        header.csum_start = <uint16_t>(header.csum_start + by)
    if header.hdr_len and (header.flags & NEEDS_CSUM or header.gso_type != GSO_NONE):
        if header.hdr_len + by < ETHERNET or header.hdr_len + by > 0xFFFF:
            return False
        header.hdr_len = <uint16_t>(header.hdr_len + by)
    return True


cdef inline int write_head(const Rules *rules, const Head *head, const Membership *found,
                           uint8_t *place) noexcept nogil:
    """Write the Ethernet header with which a frame leaves by a port that knows of VLANs; its bytes."""
    cdef bint tagged = rules.trunk and found.vlan != rules.native
    cdef uint16_t tci = ((head.tci & 0xF000) if head.tagged else 0) | found.vlan
    memcpy(place, head.bytes, 12)
    if tagged:
        place[12] = TPID >> 8
        place[13] = TPID & 0xFF
        place[14] = tci >> 8
        place[15] = tci & 0xFF
        place += 4
    place[12] = head.inside >> 8
    place[13] = head.inside & 0xFF
    return TAGGED if tagged else ETHERNET


cdef inline bint rewrite(const Frame *frame, const Head *head, int length, iovec *segments,
                         Frame *out) noexcept nogil:
    """Describe `frame` with the `length` bytes that segments[0] holds in place of its header.

    `segments` has room for one more than the frame has. False if its offloads do not allow it.
    """
    cdef uint32_t skip = TAGGED if head.tagged else ETHERNET
    cdef int change = length - <int>skip
    cdef int i
    cdef int used = 1
    out.header = frame.header
    if change and not shift_header(&out.header, change):
        return False
    if frame.length + change > LONGEST_FRAME:
        return False
    for i in range(frame.count):
        if frame.segments[i].iov_len <= skip:
            skip -= <uint32_t>frame.segments[i].iov_len
            continue
        segments[used].iov_base = <char *>frame.segments[i].iov_base + skip
        segments[used].iov_len = frame.segments[i].iov_len - skip
        skip = 0
        used += 1
    out.segments = segments
    out.count = used
    out.length = frame.length + change
    return True
