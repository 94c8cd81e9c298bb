"""Socket (virtio 1.4, "Device Types / Socket Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, array, le16, le32, le64, u8

# Feature bits
F_STREAM = Feature(0, "stream sockets")
F_SEQPACKET = Feature(1, "seqpacket sockets")
F_NO_IMPLIED_STREAM = Feature(2, "stream sockets only with STREAM")

# Operations
OP_INVALID = 0
OP_REQUEST = 1
OP_RESPONSE = 2
OP_RST = 3
OP_SHUTDOWN = 4
OP_RW = 5
OP_CREDIT_UPDATE = 6
OP_CREDIT_REQUEST = 7

# Socket types
TYPE_STREAM = 1
TYPE_SEQPACKET = 2

# Bit numbers of SHUTDOWN
SHUTDOWN_F_RECEIVE = 0
SHUTDOWN_F_SEND = 1

# Flags of RW
SEQ_EOM = 1 << 0
SEQ_EOR = 1 << 1

# Events
EVENT_TRANSPORT_RESET = 0


# Device configuration layout
class Config(Struct, name="virtio_vsock_config"):
    """Configuration space."""

    guest_cid = le64(doc="the upper 32 bits are zero")


# Device Operation
class Hdr(Struct, name="virtio_vsock_hdr"):
    """What every packet begins with."""

    src_cid = le64()
    dst_cid = le64()
    src_port = le32()
    dst_port = le32()
    len = le32(doc="bytes of data")
    type = le16(doc="one of TYPE_*")
    op = le16(doc="one of OP_*")
    flags = le32(doc="bits 1 << SHUTDOWN_F_* or SEQ_*, by op")
    buf_alloc = le32(doc="bytes of receive buffer of the sender")
    fwd_cnt = le32(doc="bytes taken out of it, modulo 2^32")


# Device Operation / Receive and Transmit
class Packet(Struct, name="virtio_vsock_packet"):
    """A packet."""

    hdr = array(Hdr)
    data = u8("len")


# Device Operation / Device Events
class Event(Struct, name="virtio_vsock_event"):
    """An event."""

    id = le32()


DEVICE = DeviceType(
    __name__,
    id=19,
    title="Socket Device",
    prefix="VIRTIO_VSOCK_",
    queues=(
        Queue("rx", 0),
        Queue("tx", 1),
        Queue("event", 2),
    ),
    config=Config,
    groups={
        "OP_": "operations",
        "TYPE_": "socket types",
        "SHUTDOWN_F_": "bit numbers of SHUTDOWN",
        "SEQ_": "flags of RW",
        "EVENT_": "events",
    },
)
