"""Drives a virtio block device (virtio 1.4, 5.2)."""

from virtio.drivers.blk.disk import Blk, BlkOptions
from virtio.drivers.blk.file import BlkFile
from virtio.drivers.blk.operation import BlkRequest
from virtio.drivers.blk.properties import Properties

__all__ = ["Blk", "BlkFile", "BlkOptions", "BlkRequest", "Properties"]
