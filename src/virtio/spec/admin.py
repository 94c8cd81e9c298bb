"""Administration virtqueues (virtio 1.4, 2.13 "Administration Virtqueues"): commands and their layouts.

A command is a ``CmdHeader``, the command's data, a ``CmdStatus`` and its result. Device parts are in
``admin_parts``.
"""

from __future__ import annotations

from virtio.spec.layout import Struct, array, le16, le32, le64, u8

# Commands
CMD_LIST_QUERY = 0
CMD_LIST_USE = 1
CMD_LEGACY_COMMON_CFG_WRITE = 2
CMD_LEGACY_COMMON_CFG_READ = 3
CMD_LEGACY_DEV_CFG_WRITE = 4
CMD_LEGACY_DEV_CFG_READ = 5
CMD_LEGACY_NOTIFY_INFO = 6
CMD_CAP_ID_LIST_QUERY = 7
CMD_DEVICE_CAP_GET = 8
CMD_DRIVER_CAP_SET = 9
CMD_RESOURCE_OBJ_CREATE = 10
CMD_RESOURCE_OBJ_QUERY = 11
CMD_RESOURCE_OBJ_MODIFY = 12
CMD_RESOURCE_OBJ_DESTROY = 13
CMD_DEV_PARTS_METADATA_GET = 14
CMD_DEV_PARTS_GET = 15
CMD_DEV_PARTS_SET = 16
CMD_DEV_MODE_SET = 17

# Status of a command
STATUS_OK = 0
STATUS_ENXIO = 6
STATUS_EAGAIN = 11
STATUS_ENOMEM = 12
STATUS_EBUSY = 16
STATUS_EINVAL = 22
STATUS_ENOSPC = 28

# What the status is about
STATUS_Q_OK = 0
STATUS_Q_INVALID_COMMAND = 1
STATUS_Q_INVALID_OPCODE = 2
STATUS_Q_INVALID_FIELD = 3
STATUS_Q_INVALID_GROUP = 4
STATUS_Q_INVALID_MEMBER = 5
STATUS_Q_NORESOURCE = 6
STATUS_Q_TRYAGAIN = 7

# Groups of devices
GROUP_SELF = 0
GROUP_SRIOV = 1

# Capabilities and resource objects common to all device types
DEV_PARTS_CAP = 0
RESOURCE_OBJ_DEV_PARTS = 0


class CmdHeader(Struct, name="virtio_admin_cmd", part="readable"):
    """What a command begins with."""

    opcode = le16(doc="one of CMD_*")
    group_type = le16(doc="one of GROUP_*")
    reserved1 = u8(12)
    group_member_id = le64()


class CmdStatus(Struct, name="virtio_admin_cmd", part="writable"):
    """What a command's answer begins with."""

    status = le16(doc="one of STATUS_*")
    status_qualifier = le16(doc="one of STATUS_Q_*")
    reserved2 = u8(4)


class CmdList(Struct, name="virtio_admin_cmd_list"):
    """The answer to LIST_QUERY, and LIST_USE: bit N of the array stands for command N."""

    device_admin_cmd_opcodes = le64("...")


class LegacyCommonCfgWrData(Struct, name="virtio_admin_cmd_legacy_common_cfg_wr_data"):
    """LEGACY_COMMON_CFG_WRITE."""

    offset = u8()
    reserved = u8(7)
    data = u8("...")


class LegacyCommonCfgRdData(Struct, name="virtio_admin_cmd_legacy_common_cfg_rd_data"):
    """LEGACY_COMMON_CFG_READ."""

    offset = u8()


class LegacyCommonCfgRdResult(Struct, name="virtio_admin_cmd_legacy_common_cfg_rd_result"):
    """The answer to LEGACY_COMMON_CFG_READ."""

    data = u8("...")


class LegacyDevRegWrData(Struct, name="virtio_admin_cmd_legacy_dev_reg_wr_data"):
    """LEGACY_DEV_CFG_WRITE."""

    offset = u8()
    reserved = u8(7)
    data = u8("...")


class LegacyDevCfgRdData(Struct, name="virtio_admin_cmd_legacy_dev_cfg_rd_data"):
    """LEGACY_DEV_CFG_READ."""

    offset = u8()


class LegacyDevRegRdResult(Struct, name="virtio_admin_cmd_legacy_dev_reg_rd_result"):
    """The answer to LEGACY_DEV_CFG_READ."""

    data = u8("...")


class PciLegacyNotifyInfo(Struct, name="virtio_pci_legacy_notify_info"):
    """Where legacy notifications go."""

    flags = u8()
    bar = u8()
    padding = u8(6)
    offset = le64()


class LegacyNotifyInfoResult(Struct, name="virtio_admin_cmd_legacy_notify_info_result"):
    """The answer to LEGACY_NOTIFY_INFO."""

    entries = array(PciLegacyNotifyInfo, 4)


class QueryCapIdResult(Struct, name="virtio_admin_cmd_query_cap_id_result"):
    """The answer to CAP_ID_LIST_QUERY."""

    supported_caps = le64("...")


class CapGetData(Struct, name="virtio_admin_cmd_cap_get_data"):
    """DEVICE_CAP_GET."""

    id = le16()
    reserved = u8(6)


class CapGetResult(Struct, name="virtio_admin_cmd_cap_get_result"):
    """The answer to DEVICE_CAP_GET."""

    cap_specific_data = u8("...")


class CapSetData(Struct, name="virtio_admin_cmd_cap_set_data"):
    """DRIVER_CAP_SET."""

    id = le16()
    reserved = u8(6)
    cap_specific_data = u8("...")


class ResourceObjCmdHdr(Struct, name="virtio_admin_cmd_resource_obj_cmd_hdr"):
    """Which resource object a command is about."""

    type = le16()
    reserved = u8(2)
    id = le32()


class ResourceObjCreateData(Struct, name="virtio_admin_cmd_resource_obj_create_data"):
    """RESOURCE_OBJ_CREATE."""

    hdr = array(ResourceObjCmdHdr)
    flags = le64()
    resource_obj_specific_data = u8("...")


class ResourceModifyData(Struct, name="virtio_admin_cmd_resource_modify_data"):
    """RESOURCE_OBJ_MODIFY."""

    hdr = array(ResourceObjCmdHdr)
    flags = le64()
    resource_obj_specific_data = u8("...")


class ResourceObjQueryData(Struct, name="virtio_admin_cmd_resource_obj_query_data"):
    """RESOURCE_OBJ_QUERY."""

    hdr = array(ResourceObjCmdHdr)
    flags = le64()


class ResourceObjQueryResult(Struct, name="virtio_admin_cmd_resource_obj_query_result"):
    """The answer to RESOURCE_OBJ_QUERY."""

    resource_obj_specific_result = u8("...")
