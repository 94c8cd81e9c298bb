"""CAN (virtio 1.4, "Device Types / CAN Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le32, u8

# Feature bits
F_CAN_CLASSIC = Feature(0, "classic CAN frames")
F_CAN_FD = Feature(1, "CAN FD frames")
F_RTR_FRAMES = Feature(2, "remote transmission requests", needs=("CAN_CLASSIC",))
F_LATE_TX_ACK = Feature(3, "a message is used once it is on the bus")

# Other numbers
TX = 0x0001
RX = 0x0101

# Status of the controller
S_CTRL_BUSOFF = 1 << 0

# Results
RESULT_OK = 0
RESULT_NOT_OK = 1

# Flags of a message
FLAGS_FD = 0x4000
FLAGS_EXTENDED = 0x8000
FLAGS_RTR = 0x2000

# Control requests
SET_CTRL_MODE_START = 0x0201
SET_CTRL_MODE_STOP = 0x0202


# Device configuration layout
class Config(Struct, name="virtio_can_config"):
    """Configuration space."""

    status = le16(doc="bits S_*")


# Device Operation / Controller Mode
class ControlOut(Struct, name="virtio_can_control_out"):
    """A control request."""

    msg_type = le16()


class ControlIn(Struct, name="virtio_can_control_in"):
    """Its answer."""

    result = u8()


class TxOut(Struct, name="virtio_can_tx_out"):
    """A message to send."""

    msg_type = le16(doc="TX")
    length = le16()
    reserved_classic_dlc = u8()
    padding = u8()
    reserved_xl_priority = le16()
    flags = le32(doc="bits FLAGS_*")
    can_id = le32()
    sdu = u8("length")


class TxIn(Struct, name="virtio_can_tx_in"):
    """Its answer."""

    result = u8()


# Device Operation / CAN Message Reception
class Rx(Struct, name="virtio_can_rx"):
    """A message received."""

    msg_type = le16(doc="RX")
    length = le16()
    reserved_classic_dlc = u8()
    padding = u8()
    reserved_xl_priority = le16()
    flags = le32(doc="bits FLAGS_*")
    can_id = le32()
    sdu = u8("length")


DEVICE = DeviceType(
    __name__,
    id=36,
    title="CAN Device",
    prefix="VIRTIO_CAN_",
    queues=(
        Queue("Txq", 0),
        Queue("Rxq", 1),
        Queue("Controlq", 2),
    ),
    config=Config,
    requires=("CAN_CLASSIC|CAN_FD",),
    groups={
        "S_": "status of the controller",
        "RESULT_": "results",
        "FLAGS_": "flags of a message",
        "SET_CTRL_MODE_": "control requests",
    },
)
