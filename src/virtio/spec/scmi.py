"""System control and management interface (virtio 1.4, "Device Types / SCMI Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le32, u8

# Feature bits
F_P2A_CHANNELS = Feature(0, "notifications or delayed responses")
F_SHARED_MEMORY = Feature(1, "statistics in shared memory")


# Device Operation / cmdq Operation
class Request(Struct, name="virtio_scmi_request", part="readable"):
    """A command."""

    hdr = le32(doc="the SCMI message header")
    params = u8("...")


class Response(Struct, name="virtio_scmi_response", part="writable"):
    """Its response."""

    hdr = le32(doc="the SCMI message header")
    ret_values = u8("...")


# eventq Operation
class EventMsg(Struct, name="virtio_scmi_event_msg", part="writable"):
    """A notification or a delayed response."""

    hdr = le32(doc="the SCMI message header")
    payload = u8("...")


DEVICE = DeviceType(
    __name__,
    id=32,
    title="SCMI Device",
    prefix="VIRTIO_SCMI_",
    queues=(
        Queue("cmdq", 0),
        Queue("eventq", 1, feature="P2A_CHANNELS"),
    ),
)
