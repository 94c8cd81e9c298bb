"""GPIO (virtio 1.4, "Device Types / GPIO Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le32, u8

# Feature bits
F_IRQ = Feature(0, "interrupts on lines")

# Status
STATUS_OK = 0x0
STATUS_ERR = 0x1

# Requests
MSG_GET_LINE_NAMES = 0x0001
MSG_GET_DIRECTION = 0x0002
MSG_SET_DIRECTION = 0x0003
MSG_GET_VALUE = 0x0004
MSG_SET_VALUE = 0x0005
MSG_SET_IRQ_TYPE = 0x0006

# Directions
DIRECTION_NONE = 0x00
DIRECTION_OUT = 0x01
DIRECTION_IN = 0x02

# Interrupt types
IRQ_TYPE_NONE = 0x00
IRQ_TYPE_EDGE_RISING = 0x01
IRQ_TYPE_EDGE_FALLING = 0x02
IRQ_TYPE_EDGE_BOTH = 0x03
IRQ_TYPE_LEVEL_HIGH = 0x04
IRQ_TYPE_LEVEL_LOW = 0x08

# Status of an interrupt
IRQ_STATUS_INVALID = 0x0
IRQ_STATUS_VALID = 0x1


# Device configuration layout
class Config(Struct, name="virtio_gpio_config"):
    """Configuration space."""

    ngpio = le16()
    padding = u8(2)
    gpio_names_size = le32(doc="bytes")


# requestq Operation
class Request(Struct, name="virtio_gpio_request"):
    """A request."""

    type = le16(doc="one of MSG_*")
    gpio = le16()
    value = le32()


class Response(Struct, name="virtio_gpio_response"):
    """Its answer."""

    status = u8(doc="one of STATUS_*")
    value = u8()


# requestq Operation / Get Line Names
class ResponseN(Struct, name="virtio_gpio_response_N", part="writable"):
    """The answer to GET_LINE_NAMES."""

    status = u8(doc="one of STATUS_*")
    value = u8("...", doc="Config.gpio_names_size bytes: a zero-terminated string per line")


# eventq Operation
class IrqRequest(Struct, name="virtio_gpio_irq_request"):
    """A buffer that waits for an interrupt of a line."""

    gpio = le16()


class IrqResponse(Struct, name="virtio_gpio_irq_response"):
    """Whether it came."""

    status = u8(doc="one of IRQ_STATUS_*")


DEVICE = DeviceType(
    __name__,
    id=41,
    title="GPIO Device",
    prefix="VIRTIO_GPIO_",
    queues=(
        Queue("requestq", 0),
        Queue("eventq", 1, feature="IRQ"),
    ),
    config=Config,
    groups={
        "STATUS_": "status",
        "MSG_": "requests",
        "DIRECTION_": "directions",
        "IRQ_TYPE_": "interrupt types",
        "IRQ_STATUS_": "status of an interrupt",
    },
)
