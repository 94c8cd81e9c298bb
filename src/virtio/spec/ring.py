"""Virtqueues in memory (virtio 1.4, 2.7 "Split Virtqueues" and 2.8 "Packed Virtqueues"), and notifications.

Declared for printing and for tests; the rings themselves are read and written by ``virtio.virtqueue``.
"""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le16, le32, le64

MAX_SIZE = 32768
"""Descriptors of the largest virtqueue of either kind."""

# Flags of a descriptor
DESC_F_NEXT = 1
DESC_F_WRITE = 2
DESC_F_INDIRECT = 4
DESC_F_AVAIL = 1 << 7
DESC_F_USED = 1 << 15

# Flags of the split rings
AVAIL_F_NO_INTERRUPT = 1
USED_F_NO_NOTIFY = 1

# Event suppression of the packed ring
RING_EVENT_FLAGS_ENABLE = 0
RING_EVENT_FLAGS_DISABLE = 1
RING_EVENT_FLAGS_DESC = 2

# Bytes to which each area is aligned
SPLIT_DESC_ALIGN = 16
SPLIT_AVAIL_ALIGN = 2
SPLIT_USED_ALIGN = 4
PACKED_DESC_ALIGN = 16
PACKED_EVENT_ALIGN = 4
LEGACY_ALIGN = 4096


class Desc(Struct, name="virtq_desc"):
    """A descriptor of a split virtqueue, or of an indirect table of one."""

    addr = le64()
    len = le32(doc="bytes")
    flags = le16(doc="bits DESC_F_*")
    next = le16(doc="an index, with DESC_F_NEXT")


class Avail(Struct, name="virtq_avail"):
    """The available ring of a split virtqueue: heads of chains, from the driver."""

    flags = le16(doc="AVAIL_F_NO_INTERRUPT")
    idx = le16(doc="heads made available so far, modulo 65536")
    ring = le16("queue_size")
    used_event = le16(feature="EVENT_IDX")


class UsedElem(Struct, name="virtq_used_elem"):
    """A chain that the device has used."""

    id = le32(doc="the chain's head")
    len = le32(doc="bytes written")


class Used(Struct, name="virtq_used"):
    """The used ring of a split virtqueue, from the device."""

    flags = le16(doc="USED_F_NO_NOTIFY")
    idx = le16(doc="chains used so far, modulo 65536")
    ring = array(UsedElem, "queue_size")
    avail_event = le16(feature="EVENT_IDX")


class PackedDesc(Struct, name="pvirtq_desc"):
    """A descriptor of a packed virtqueue, or of an indirect table of one."""

    addr = le64()
    len = le32(doc="bytes")
    id = le16()
    flags = le16(doc="bits DESC_F_*")


class EventSuppress(Struct, name="pvirtq_event_suppress"):
    """When the other side of a packed virtqueue wants to be notified."""

    desc = le16(doc="bits 0 to 14: offset in the ring, bit 15: wrap counter")
    flags = le16(doc="bits 0 and 1: one of RING_EVENT_FLAGS_*")


class NotificationData(Struct, name="notification data"):
    """What the driver writes to notify the device, with NOTIFICATION_DATA."""

    vq_index = le16(doc="or what the device chose, with NOTIF_CONFIG_DATA")
    next = le16(doc="split: the available index; packed: bits 0 to 14 offset, bit 15 wrap counter")
