"""Device parts: the state of a device, piece by piece (virtio 1.4, 2.14 "Device parts").

With the administration commands that read and write them.
"""

from __future__ import annotations

from virtio.spec.admin import ResourceObjCmdHdr
from virtio.spec.layout import Struct, array, le16, le32, le64, u8

# Common device parts
DEV_PART_DEV_FEATURES = 0x100
DEV_PART_DRV_FEATURES = 0x101
DEV_PART_PCI_COMMON_CFG = 0x102
DEV_PART_DEVICE_STATUS = 0x103
DEV_PART_VQ_CFG = 0x104
DEV_PART_VQ_NOTIFY_CFG = 0x105

# Bit number in the flags of a part
DEV_PART_F_OPTIONAL = 0

# What the commands are about
RESOURCE_OBJ_DEV_PARTS_TYPE_GET = 0
RESOURCE_OBJ_DEV_PARTS_TYPE_SET = 1
METADATA_TYPE_SIZE = 0
METADATA_TYPE_COUNT = 1
METADATA_TYPE_LIST = 2
GET_TYPE_SELECTED = 0
GET_TYPE_ALL = 1
DEV_MODE_F_STOPPED = 0


class DevPartHdr(Struct, name="virtio_dev_part_hdr"):
    """Which part of the state of a device, and how long it is."""

    part_type = le16()
    flags = u8()
    reserved = u8()
    selector = u8(8, doc="by part_type: an offset (le32), a virtqueue index (le16) or the device type's own")
    length = le32()


class DevPart(Struct, name="virtio_dev_part"):
    """A part."""

    hdr = array(DevPartHdr)
    value = u8("...")


class DevPartFeatures(Struct, name="virtio_dev_part_features"):
    """DEV_FEATURES and DRV_FEATURES."""

    feature_bits = le64("...")


class DevPartVqCfg(Struct, name="virtio_dev_part_vq_cfg"):
    """VQ_CFG."""

    queue_size = le16()
    vector = le16()
    enabled = le16()
    reserved = le16()
    queue_desc = le64()
    queue_driver = le64()
    queue_device = le64()


class DevPartVqNotifyData(Struct, name="virtio_dev_part_vq_notify_data"):
    """VQ_NOTIFY_CFG."""

    queue_notify_off = le16()
    queue_notif_config_data = le16()
    reserved = u8(4)


class DevPartsCap(Struct, name="virtio_dev_parts_cap"):
    """How many device parts objects there may be."""

    get_parts_resource_objects_limit = u8()
    set_parts_resource_objects_limit = u8()


class ResourceObjDevParts(Struct, name="virtio_resource_obj_dev_parts"):
    """A device parts object."""

    type = u8()
    reserved = u8(7)


class DevPartsMetadataData(Struct, name="virtio_admin_cmd_dev_parts_metadata_data"):
    """DEV_PARTS_METADATA_GET."""

    hdr = array(ResourceObjCmdHdr)
    type = u8()
    reserved = u8(7)


class DevPartsMetadataResult(Struct, name="virtio_admin_cmd_dev_parts_metadata_result", part="writable"):
    """The answer to DEV_PARTS_METADATA_GET: bytes, a count, or a count and the headers, by its type."""

    size_or_count = le32()
    reserved = le32()
    hdrs = array(DevPartHdr, "...", doc="METADATA_TYPE_LIST only")


class DevPartsGetData(Struct, name="virtio_admin_cmd_dev_parts_get_data"):
    """DEV_PARTS_GET."""

    hdr = array(ResourceObjCmdHdr)
    type = u8()
    reserved = u8(7)
    hdr_list = array(DevPartHdr, "...")


class DevPartsGetResult(Struct, name="virtio_admin_cmd_dev_parts_get_result"):
    """The answer to DEV_PARTS_GET."""

    parts = u8("...", doc="DevPart after DevPart")


class DevPartsSetData(Struct, name="virtio_admin_cmd_dev_parts_set_data"):
    """DEV_PARTS_SET."""

    hdr = array(ResourceObjCmdHdr)
    parts = u8("...", doc="DevPart after DevPart")


class DevModeSetData(Struct, name="virtio_admin_cmd_dev_mode_set_data"):
    """DEV_MODE_SET."""

    flags = u8()
