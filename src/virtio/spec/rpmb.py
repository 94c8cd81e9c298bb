"""Replay protected memory block (virtio 1.4, "Device Types / RPMB Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Queue
from virtio.spec.layout import Struct, be16, be32, u8

# Requests
REQ_PROGRAM_KEY = 0x0001
REQ_GET_WRITE_COUNTER = 0x0002
REQ_DATA_WRITE = 0x0003
REQ_DATA_READ = 0x0004
REQ_RESULT_READ = 0x0005

# Responses
RESP_PROGRAM_KEY = 0x0100
RESP_GET_COUNTER = 0x0200
RESP_DATA_WRITE = 0x0300
RESP_DATA_READ = 0x0400

# Results
RES_OK = 0x0000
RES_GENERAL_FAILURE = 0x0001
RES_AUTH_FAILURE = 0x0002
RES_COUNT_FAILURE = 0x0003
RES_ADDR_FAILURE = 0x0004
RES_WRITE_FAILURE = 0x0005
RES_READ_FAILURE = 0x0006
RES_NO_AUTH_KEY = 0x0007
RES_WRITE_COUNTER_EXPIRED = 0x0080


# Device configuration layout
class Config(Struct, name="virtio_rpmb_config"):
    """Configuration space."""

    capacity = u8(doc="units of 128 KiB")
    max_wr_cnt = u8(doc="frames of 256 bytes in a write")
    max_rd_cnt = u8(doc="frames of 256 bytes in a read")


# Device Operation / Device Operation: Request Queue
class Frame(Struct, name="virtio_rpmb_frame"):
    """A request or an answer; as JEDEC has it, big-endian."""

    stuff = u8(196)
    key_mac = u8(32)
    data = u8(256)
    nonce = u8(16)
    write_counter = be32()
    address = be16()
    block_count = be16()
    result = be16(doc="one of RES_*")
    req_resp = be16(doc="one of REQ_* or RESP_*")


DEVICE = DeviceType(
    __name__,
    id=28,
    title="RPMB Device",
    prefix="VIRTIO_RPMB_",
    queues=(Queue("requestq", 0),),
    config=Config,
    groups={
        "REQ_": "requests",
        "RESP_": "responses",
        "RES_": "results",
    },
)
