"""GPU (virtio 1.4, "Device Types / GPU Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, array, le32, le64, u8

# Feature bits
F_VIRGL = Feature(0, "virgl 3D mode")
F_EDID = Feature(1, "EDID")
F_RESOURCE_UUID = Feature(2, "resources have UUIDs for other devices")
F_RESOURCE_BLOB = Feature(3, "size-based blob resources")
F_CONTEXT_INIT = Feature(4, "context types and timelines", needs=("VIRGL",))
F_BLOB_ALIGNMENT = Feature(5, "blob_alignment is valid", needs=("RESOURCE_BLOB",))

# Other numbers
MAX_SCANOUTS = 16
CONTEXT_INIT_CAPSET_ID_MASK = 0x000000FF

# Commands
CMD_GET_DISPLAY_INFO = 0x0100
CMD_RESOURCE_CREATE_2D = 0x0101
CMD_RESOURCE_UNREF = 0x0102
CMD_SET_SCANOUT = 0x0103
CMD_RESOURCE_FLUSH = 0x0104
CMD_TRANSFER_TO_HOST_2D = 0x0105
CMD_RESOURCE_ATTACH_BACKING = 0x0106
CMD_RESOURCE_DETACH_BACKING = 0x0107
CMD_GET_CAPSET_INFO = 0x0108
CMD_GET_CAPSET = 0x0109
CMD_GET_EDID = 0x010A
CMD_RESOURCE_ASSIGN_UUID = 0x010B
CMD_RESOURCE_CREATE_BLOB = 0x010C
CMD_SET_SCANOUT_BLOB = 0x010D
CMD_CTX_CREATE = 0x0200
CMD_CTX_DESTROY = 0x0201
CMD_CTX_ATTACH_RESOURCE = 0x0202
CMD_CTX_DETACH_RESOURCE = 0x0203
CMD_RESOURCE_CREATE_3D = 0x0204
CMD_TRANSFER_TO_HOST_3D = 0x0205
CMD_TRANSFER_FROM_HOST_3D = 0x0206
CMD_SUBMIT_3D = 0x0207
CMD_RESOURCE_MAP_BLOB = 0x0208
CMD_RESOURCE_UNMAP_BLOB = 0x0209
CMD_UPDATE_CURSOR = 0x0300
CMD_MOVE_CURSOR = 0x0301

# Responses
RESP_OK_NODATA = 0x1100
RESP_OK_DISPLAY_INFO = 0x1101
RESP_OK_CAPSET_INFO = 0x1102
RESP_OK_CAPSET = 0x1103
RESP_OK_EDID = 0x1104
RESP_OK_RESOURCE_UUID = 0x1105
RESP_OK_MAP_INFO = 0x1106
RESP_ERR_UNSPEC = 0x1200
RESP_ERR_OUT_OF_MEMORY = 0x1201
RESP_ERR_INVALID_SCANOUT_ID = 0x1202
RESP_ERR_INVALID_RESOURCE_ID = 0x1203
RESP_ERR_INVALID_CONTEXT_ID = 0x1204
RESP_ERR_INVALID_PARAMETER = 0x1205

# Header flags
FLAG_FENCE = 1 << 0
FLAG_INFO_RING_IDX = 1 << 1

# Pixel formats
FORMAT_B8G8R8A8_UNORM = 1
FORMAT_B8G8R8X8_UNORM = 2
FORMAT_A8R8G8B8_UNORM = 3
FORMAT_X8R8G8B8_UNORM = 4
FORMAT_R8G8B8A8_UNORM = 67
FORMAT_X8B8G8R8_UNORM = 68
FORMAT_A8B8G8R8_UNORM = 121
FORMAT_R8G8B8X8_UNORM = 134

# Events
EVENT_DISPLAY = 1 << 0

# Capability sets
CAPSET_VIRGL = 1
CAPSET_VIRGL2 = 2
CAPSET_GFXSTREAM = 3
CAPSET_VENUS = 4
CAPSET_CROSS_DOMAIN = 5

# Where a blob lives
BLOB_MEM_GUEST = 0x0001
BLOB_MEM_HOST3D = 0x0002
BLOB_MEM_HOST3D_GUEST = 0x0003

# Blob flags
BLOB_FLAG_USE_MAPPABLE = 0x0001
BLOB_FLAG_USE_SHAREABLE = 0x0002
BLOB_FLAG_USE_CROSS_DEVICE = 0x0004

# How a blob is mapped
MAP_CACHE_MASK = 0x0F
MAP_CACHE_NONE = 0x00
MAP_CACHE_CACHED = 0x01
MAP_CACHE_UNCACHED = 0x02
MAP_CACHE_WC = 0x03

# Shared memory regions
SHM_ID_UNDEFINED = 0
SHM_ID_HOST_VISIBLE = 1


# Device configuration layout
class Config(Struct, name="virtio_gpu_config"):
    """Configuration space."""

    events_read = le32(doc="bits EVENT_*")
    events_clear = le32(doc="written by the driver to clear events")
    num_scanouts = le32()
    num_capsets = le32()
    blob_alignment = le32(feature="BLOB_ALIGNMENT")


# Device Operation / Device Operation: Request header
class CtrlHdr(Struct, name="virtio_gpu_ctrl_hdr"):
    """What every request and response begins with."""

    type = le32(doc="one of CMD_* or RESP_*")
    flags = le32(doc="bits FLAG_*")
    fence_id = le64()
    ctx_id = le32()
    ring_idx = u8()
    padding = u8(3)


# Device Operation / Device Operation: controlq
class Rect(Struct, name="virtio_gpu_rect"):
    """A rectangle, in pixels."""

    x = le32()
    y = le32()
    width = le32()
    height = le32()


class DisplayOne(Struct, name="virtio_gpu_display_one"):
    """One scanout."""

    r = array(Rect)
    enabled = le32()
    flags = le32()


class RespDisplayInfo(Struct, name="virtio_gpu_resp_display_info"):
    """The answer to GET_DISPLAY_INFO."""

    hdr = array(CtrlHdr)
    pmodes = array(DisplayOne, MAX_SCANOUTS)


class GetEdid(Struct, name="virtio_gpu_get_edid"):
    """GET_EDID."""

    hdr = array(CtrlHdr)
    scanout = le32()
    padding = le32()


class RespEdid(Struct, name="virtio_gpu_resp_edid"):
    """The answer to GET_EDID."""

    hdr = array(CtrlHdr)
    size = le32()
    padding = le32()
    edid = u8(1024)


class ResourceCreate2d(Struct, name="virtio_gpu_resource_create_2d"):
    """RESOURCE_CREATE_2D."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    format = le32()
    width = le32()
    height = le32()


class ResourceUnref(Struct, name="virtio_gpu_resource_unref"):
    """RESOURCE_UNREF."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    padding = le32()


class SetScanout(Struct, name="virtio_gpu_set_scanout"):
    """SET_SCANOUT."""

    hdr = array(CtrlHdr)
    r = array(Rect)
    scanout_id = le32()
    resource_id = le32()


class ResourceFlush(Struct, name="virtio_gpu_resource_flush"):
    """RESOURCE_FLUSH."""

    hdr = array(CtrlHdr)
    r = array(Rect)
    resource_id = le32()
    padding = le32()


class TransferToHost2d(Struct, name="virtio_gpu_transfer_to_host_2d"):
    """TRANSFER_TO_HOST_2D."""

    hdr = array(CtrlHdr)
    r = array(Rect)
    offset = le64()
    resource_id = le32()
    padding = le32()


class ResourceAttachBacking(Struct, name="virtio_gpu_resource_attach_backing"):
    """RESOURCE_ATTACH_BACKING; nr_entries of MemEntry follow."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    nr_entries = le32()


class MemEntry(Struct, name="virtio_gpu_mem_entry"):
    """A piece of guest memory."""

    addr = le64()
    length = le32()
    padding = le32()


class ResourceDetachBacking(Struct, name="virtio_gpu_resource_detach_backing"):
    """RESOURCE_DETACH_BACKING."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    padding = le32()


class GetCapsetInfo(Struct, name="virtio_gpu_get_capset_info"):
    """GET_CAPSET_INFO."""

    hdr = array(CtrlHdr)
    capset_index = le32()
    padding = le32()


class RespCapsetInfo(Struct, name="virtio_gpu_resp_capset_info"):
    """The answer to GET_CAPSET_INFO."""

    hdr = array(CtrlHdr)
    capset_id = le32()
    capset_max_version = le32()
    capset_max_size = le32()
    padding = le32()


class GetCapset(Struct, name="virtio_gpu_get_capset"):
    """GET_CAPSET."""

    hdr = array(CtrlHdr)
    capset_id = le32()
    capset_version = le32()


class RespCapset(Struct, name="virtio_gpu_resp_capset"):
    """The answer to GET_CAPSET."""

    hdr = array(CtrlHdr)
    capset_data = u8("...")


class ResourceAssignUuid(Struct, name="virtio_gpu_resource_assign_uuid"):
    """RESOURCE_ASSIGN_UUID."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    padding = le32()


class RespResourceUuid(Struct, name="virtio_gpu_resp_resource_uuid"):
    """The answer to RESOURCE_ASSIGN_UUID."""

    hdr = array(CtrlHdr)
    uuid = u8(16)


class ResourceCreateBlob(Struct, name="virtio_gpu_resource_create_blob"):
    """RESOURCE_CREATE_BLOB; nr_entries of MemEntry follow."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    blob_mem = le32()
    blob_flags = le32()
    nr_entries = le32()
    blob_id = le64()
    size = le64()


class SetScanoutBlob(Struct, name="virtio_gpu_set_scanout_blob"):
    """SET_SCANOUT_BLOB."""

    hdr = array(CtrlHdr)
    r = array(Rect)
    scanout_id = le32()
    resource_id = le32()
    width = le32()
    height = le32()
    format = le32()
    padding = le32()
    strides = le32(4)
    offsets = le32(4)


# Device Operation / Device Operation: controlq (3d)
class CtxCreate(Struct, name="virtio_gpu_ctx_create"):
    """CTX_CREATE."""

    hdr = array(CtrlHdr)
    nlen = le32()
    context_init = le32()
    debug_name = u8(64)


class ResourceMapBlob(Struct, name="virtio_gpu_resource_map_blob"):
    """RESOURCE_MAP_BLOB."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    padding = le32()
    offset = le64()


class RespMapInfo(Struct, name="virtio_gpu_resp_map_info"):
    """The answer to RESOURCE_MAP_BLOB."""

    hdr = array(CtrlHdr)
    map_info = le32()
    padding = le32()


class ResourceUnmapBlob(Struct, name="virtio_gpu_resource_unmap_blob"):
    """RESOURCE_UNMAP_BLOB."""

    hdr = array(CtrlHdr)
    resource_id = le32()
    padding = le32()


# Device Operation / Device Operation: cursorq
class CursorPos(Struct, name="virtio_gpu_cursor_pos"):
    """Where a cursor is."""

    scanout_id = le32()
    x = le32()
    y = le32()
    padding = le32()


class UpdateCursor(Struct, name="virtio_gpu_update_cursor"):
    """UPDATE_CURSOR and MOVE_CURSOR."""

    hdr = array(CtrlHdr)
    pos = array(CursorPos)
    resource_id = le32()
    hot_x = le32()
    hot_y = le32()
    padding = le32()


DEVICE = DeviceType(
    __name__,
    id=16,
    title="GPU Device",
    prefix="VIRTIO_GPU_",
    queues=(
        Queue("controlq", 0),
        Queue("cursorq", 1),
    ),
    config=Config,
    groups={
        "CMD_": "commands",
        "RESP_": "responses",
        "FLAG_": "header flags",
        "FORMAT_": "pixel formats",
        "EVENT_": "events",
        "CAPSET_": "capability sets",
        "BLOB_MEM_": "where a blob lives",
        "BLOB_FLAG_": "blob flags",
        "MAP_CACHE_": "how a blob is mapped",
        "SHM_ID_": "shared memory regions",
    },
)
