"""Console (virtio 1.4, "Device Types / Console Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le32

# Feature bits
F_SIZE = Feature(0, "cols and rows are valid")
F_MULTIPORT = Feature(1, "several ports, and control queues")
F_EMERG_WRITE = Feature(2, "emergency write")

# Control events (without EVENT_ in the specification)
EVENT_DEVICE_READY = 0
EVENT_DEVICE_ADD = 1
EVENT_DEVICE_REMOVE = 2
EVENT_PORT_READY = 3
EVENT_CONSOLE_PORT = 4
EVENT_RESIZE = 5
EVENT_PORT_OPEN = 6
EVENT_PORT_NAME = 7


# Device configuration layout
class Config(Struct, name="virtio_console_config"):
    """Configuration space."""

    cols = le16(feature="SIZE")
    rows = le16(feature="SIZE")
    max_nr_ports = le32(feature="MULTIPORT")
    emerg_wr = le32(feature="EMERG_WRITE", doc="a character to print at once; written by the driver")


# Device Operation / Multiport Device Operation
class Control(Struct, name="virtio_console_control"):
    """A message on the control queues; a name or a size may follow it."""

    id = le32(doc="port number")
    event = le16(doc="one of EVENT_*")
    value = le16()


class Resize(Struct, name="virtio_console_resize"):
    """What follows a RESIZE message."""

    cols = le16()
    rows = le16()


DEVICE = DeviceType(
    __name__,
    id=3,
    title="Console Device",
    prefix="VIRTIO_CONSOLE_",
    queues=(
        Queue("receiveq(port0)", 0),
        Queue("transmitq(port0)", 1),
        Queue("control receiveq", 2, feature="MULTIPORT"),
        Queue("control transmitq", 3, feature="MULTIPORT"),
        Queue("receiveq(port1)", 4, repeat="port N at 2N+2 for N >= 1", feature="MULTIPORT"),
        Queue("transmitq(port1)", 5, repeat="port N at 2N+3 for N >= 1", feature="MULTIPORT"),
    ),
    config=Config,
    groups={
        "EVENT_": "control events (without EVENT_ in the specification)",
    },
)
