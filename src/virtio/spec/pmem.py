"""Persistent memory (virtio 1.4, "Device Types / PMEM Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le32, le64

# Feature bits
F_SHMEM_REGION = Feature(0, "the range is shared memory region 0")

# Other numbers
SHMEM_REGION_ID = 0

# Requests
REQ_TYPE_FLUSH = 0


# Device configuration layout
class Config(Struct, name="virtio_pmem_config"):
    """Configuration space."""

    start = le64()
    size = le64(doc="bytes")


# Driver Operation / Request Queues
class Req(Struct, name="virtio_pmem_req"):
    """A request."""

    type = le32(doc="one of REQ_TYPE_*")


# Device Operation / Virtqueue return
class Resp(Struct, name="virtio_pmem_resp"):
    """Its answer."""

    ret = le32(doc="0 if the flush succeeded")


DEVICE = DeviceType(
    __name__,
    id=27,
    title="PMEM Device",
    prefix="VIRTIO_PMEM_",
    queues=(Queue("req_vq", 0),),
    config=Config,
    groups={
        "REQ_TYPE_": "requests",
    },
)
