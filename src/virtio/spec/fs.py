"""File system (virtio 1.4, "Device Types / File System Device").

A request is a FUSE request: ``FuseInHeader`` and its arguments, ``FuseOutHeader`` and its results.
"""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le32, le64, u8

# Feature bits
F_NOTIFICATION = Feature(0, "FUSE notify messages")

# Shared memory regions
SHM_ID_DAX = 0


# Device configuration layout
class Config(Struct, name="virtio_fs_config"):
    """Configuration space."""

    tag = u8(36, doc="UTF-8, padded with zeros")
    num_request_queues = le32()
    notify_buf_size = le32(feature="NOTIFICATION", doc="bytes")


class FuseInHeader(Struct, name="fuse_in_header", part="readable"):
    """What a FUSE request begins with; little-endian as the driver is."""

    len = le32(doc="bytes of the request with its header")
    opcode = le32()
    unique = le64()
    nodeid = le64()
    uid = le32()
    gid = le32()
    pid = le32()
    padding = le32()


class FuseOutHeader(Struct, name="fuse_out_header", part="writable"):
    """What the answer begins with."""

    len = le32(doc="bytes of the answer with its header")
    error = le32(doc="a negative errno, or 0")
    unique = le64()


DEVICE = DeviceType(
    __name__,
    id=26,
    title="File System Device",
    prefix="VIRTIO_FS_",
    queues=(
        Queue("hiprio", 0),
        Queue("notification queue", 1, feature="NOTIFICATION"),
        Queue("requestq", 2, repeat="num_request_queues, at 1 without NOTIFICATION"),
    ),
    config=Config,
    groups={
        "SHM_ID_": "shared memory regions",
    },
)
