"""Control elements of the sound device.

Virtio 1.4, "Device Types / Sound Device / Device Operation / Control Elements".
"""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le16, le32, u8
from virtio.spec.sound import Hdr, Info

# What an element is for
CTL_ROLE_UNDEFINED = 0
CTL_ROLE_VOLUME = 1
CTL_ROLE_MUTE = 2
CTL_ROLE_GAIN = 3

# What its value is
CTL_TYPE_BOOLEAN = 0
CTL_TYPE_INTEGER = 1
CTL_TYPE_INTEGER64 = 2
CTL_TYPE_ENUMERATED = 3
CTL_TYPE_BYTES = 4
CTL_TYPE_IEC958 = 5

# Bit numbers of its access
CTL_ACCESS_READ = 0
CTL_ACCESS_WRITE = 1
CTL_ACCESS_VOLATILE = 2
CTL_ACCESS_INACTIVE = 3
CTL_ACCESS_TLV_READ = 4
CTL_ACCESS_TLV_WRITE = 5
CTL_ACCESS_TLV_COMMAND = 6

# Bit numbers of what changed
CTL_EVT_MASK_VALUE = 0
CTL_EVT_MASK_INFO = 1
CTL_EVT_MASK_TLV = 2


# Device Operation / Control Elements
class CtlHdr(Struct, name="virtio_snd_ctl_hdr"):
    """What a control element request begins with."""

    hdr = array(Hdr)
    control_id = le32()


# Query information
class CtlInfo(Struct, name="virtio_snd_ctl_info"):
    """A control element."""

    hdr = array(Info)
    role = le32(doc="one of CTL_ROLE_*")
    type = le32(doc="one of CTL_TYPE_*")
    access = le32(doc="bits 1 << CTL_ACCESS_*")
    count = le32()
    index = le32()
    name = u8(44)
    value = u8(24, doc="min, max, step as le32 or le64, or the number of items, by type")


class CtlEnumItem(Struct, name="virtio_snd_ctl_enum_item"):
    """The name of an enumerated value."""

    item = u8(64)


# Value
class CtlIec958(Struct, name="virtio_snd_ctl_iec958"):
    """An IEC958 value."""

    status = u8(24)
    subcode = u8(147)
    pad = u8()
    dig_subframe = u8(4)


class CtlValue(Struct, name="virtio_snd_ctl_value"):
    """The value of a control element."""

    value = u8(512, doc="as the element's type says")


# Metadata
class CtlTlv(Struct, name="virtio_snd_ctl_tlv"):
    """Metadata of a control element."""

    type = le32()
    length = le32()
    value = le32("...", doc="length bytes")


# Notifications
class CtlEvent(Struct, name="virtio_snd_ctl_event"):
    """An event of a control element."""

    hdr = array(Hdr)
    control_id = le16()
    mask = le16(doc="bits 1 << CTL_EVT_MASK_*")
