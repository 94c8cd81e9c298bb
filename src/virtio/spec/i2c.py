"""I2C adapter (virtio 1.4, "Device Types / I2C Adapter Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le32, u8

# Feature bits
F_ZERO_LENGTH_REQUEST = Feature(0, "zero-length requests; mandatory")

# Bit numbers of the flags
FLAGS_FAIL_NEXT = 0
FLAGS_M_RD = 1

# Status
MSG_OK = 0
MSG_ERR = 1


# Device Operation: Request Queue
class OutHdr(Struct, name="virtio_i2c_out_hdr"):
    """What a request begins with; data follows, readable for a write, writable for a read."""

    addr = le16(doc="bits 1 to 7, or in 10-bit form 8 to 15 and 1 to 2")
    padding = le16()
    flags = le32(doc="bits 1 << FLAGS_*")


class InHdr(Struct, name="virtio_i2c_in_hdr"):
    """What a request ends with."""

    status = u8(doc="one of MSG_*")


DEVICE = DeviceType(
    __name__,
    id=34,
    title="I2C Adapter Device",
    prefix="VIRTIO_I2C_",
    queues=(Queue("requestq", 0),),
    requires=("ZERO_LENGTH_REQUEST",),
    groups={
        "FLAGS_": "bit numbers of the flags",
        "MSG_": "status",
    },
)
