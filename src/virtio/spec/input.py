"""Input (virtio 1.4, "Device Types / Input Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Queue
from virtio.spec.layout import Struct, le16, le32, u8

# What to select
CFG_UNSET = 0x00
CFG_ID_NAME = 0x01
CFG_ID_SERIAL = 0x02
CFG_ID_DEVIDS = 0x03
CFG_PROP_BITS = 0x10
CFG_EV_BITS = 0x11
CFG_ABS_INFO = 0x12


# Device configuration layout
class Absinfo(Struct, name="virtio_input_absinfo"):
    """The range of an absolute axis."""

    min = le32()
    max = le32()
    fuzz = le32()
    flat = le32()
    res = le32()


class Devids(Struct, name="virtio_input_devids"):
    """Who made the device."""

    bustype = le16()
    vendor = le16()
    product = le16()
    version = le16()


class Config(Struct, name="virtio_input_config"):
    """Configuration space; the driver writes select and subsel, the device answers in u."""

    select = u8(doc="one of CFG_*")
    subsel = u8()
    size = u8(doc="bytes used in u")
    reserved = u8(5)
    u = u8(128, doc="a string, a bitmap, Absinfo or Devids, as select says")


# Device Operation
class Event(Struct, name="virtio_input_event"):
    """An event, as Linux has it."""

    type = le16()
    code = le16()
    value = le32()


DEVICE = DeviceType(
    __name__,
    id=18,
    title="Input Device",
    prefix="VIRTIO_INPUT_",
    queues=(
        Queue("eventq", 0),
        Queue("statusq", 1),
    ),
    config=Config,
    groups={
        "CFG_": "what to select",
    },
)
