"""Memory (virtio 1.4, "Device Types / Memory Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le64, u8

# Feature bits
F_ACPI_PXM = Feature(0, "node_id is valid")
F_UNPLUGGED_INACCESSIBLE = Feature(1, "unplugged memory must not be accessed")
F_PERSISTENT_SUSPEND = Feature(2, "memory survives suspend")

# Requests
REQ_PLUG = 0
REQ_UNPLUG = 1
REQ_UNPLUG_ALL = 2
REQ_STATE = 3

# Responses
RESP_ACK = 0
RESP_NACK = 1
RESP_BUSY = 2
RESP_ERROR = 3

# States
STATE_PLUGGED = 0
STATE_UNPLUGGED = 1
STATE_MIXED = 2


# Device configuration layout
class Config(Struct, name="virtio_mem_config"):
    """Configuration space."""

    block_size = le64(doc="bytes")
    node_id = le16(feature="ACPI_PXM")
    padding = u8(6)
    addr = le64()
    region_size = le64(doc="bytes")
    usable_region_size = le64(doc="bytes")
    plugged_size = le64(doc="bytes")
    requested_size = le64(doc="bytes")


# Device Operation
class Req(Struct, name="virtio_mem_req", part="readable"):
    """A request; PLUG, UNPLUG and STATE use addr and nb_blocks."""

    type = le16(doc="one of REQ_*")
    padding = le16(3)
    addr = le64()
    nb_blocks = le16()
    padding1 = le16(3)


class Resp(Struct, name="virtio_mem_resp", part="writable"):
    """The answer; state only to STATE."""

    type = le16(doc="one of RESP_*")
    padding = le16(3)
    state = le16(doc="one of STATE_*")


DEVICE = DeviceType(
    __name__,
    id=24,
    title="Memory Device",
    prefix="VIRTIO_MEM_",
    queues=(Queue("guest-request", 0),),
    config=Config,
    groups={
        "REQ_": "requests",
        "RESP_": "responses",
        "STATE_": "states",
    },
)
