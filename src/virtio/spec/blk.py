"""Block device (virtio 1.4, "Device Types / Block Device").

A request is a ``ReqHeader`` (readable), data (readable for OUT and the segment lists, writable for IN and the
reports) and a ``ReqStatus`` (writable). Sectors are always 512 bytes, whatever the block size.
"""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, array, le16, le32, le64, u8

SECTOR_SIZE = 512
"""Bytes in a sector, the unit of ``capacity`` and of every sector number."""
ID_BYTES = 20
"""Bytes of the answer to GET_ID, a string padded with zeros, without a terminator when full."""

# Feature bits
F_BARRIER = Feature(0, "request barriers", legacy=True)
F_SIZE_MAX = Feature(1, "the largest segment is size_max bytes")
F_SEG_MAX = Feature(2, "a request has seg_max data segments at most")
F_GEOMETRY = Feature(4, "disk-style geometry")
F_RO = Feature(5, "the device is read-only")
F_BLK_SIZE = Feature(6, "the block size is blk_size bytes")
F_SCSI = Feature(7, "SCSI packet commands", legacy=True)
F_FLUSH = Feature(9, "FLUSH requests (legacy name: WCE)")
F_TOPOLOGY = Feature(10, "optimal alignment and transfer sizes")
F_CONFIG_WCE = Feature(11, "the driver may switch between writeback and writethrough")
F_MQ = Feature(12, "num_queues request queues")
F_DISCARD = Feature(13, "DISCARD requests")
F_WRITE_ZEROES = Feature(14, "WRITE_ZEROES requests")
F_LIFETIME = Feature(15, "GET_LIFETIME requests")
F_SECURE_ERASE = Feature(16, "SECURE_ERASE requests")
F_ZONED = Feature(17, "zones, as zoned describes", needs=("VERSION_1",))

# Request types
T_IN = 0
T_OUT = 1
T_SCSI_CMD = 2
T_SCSI_CMD_OUT = 3
T_FLUSH = 4
T_FLUSH_OUT = 5
T_GET_ID = 8
T_GET_LIFETIME = 10
T_DISCARD = 11
T_WRITE_ZEROES = 13
T_SECURE_ERASE = 14
T_ZONE_APPEND = 15
T_ZONE_REPORT = 16
T_ZONE_OPEN = 18
T_ZONE_CLOSE = 20
T_ZONE_FINISH = 22
T_ZONE_RESET = 24
T_ZONE_RESET_ALL = 26
T_BARRIER = 0x80000000

# Status of a request
S_OK = 0
S_IOERR = 1
S_UNSUPP = 2
S_ZONE_INVALID_CMD = 3
S_ZONE_UNALIGNED_WP = 4
S_ZONE_OPEN_RESOURCE = 5
S_ZONE_ACTIVE_RESOURCE = 6

# Zone models
Z_NONE = 0
Z_HM = 1
Z_HA = 2

# Zone types
ZT_CONV = 1
ZT_SWR = 2
ZT_SWP = 3

# Zone states
ZS_NOT_WP = 0
ZS_EMPTY = 1
ZS_IOPEN = 2
ZS_EOPEN = 3
ZS_CLOSED = 4
ZS_RDONLY = 13
ZS_FULL = 14
ZS_OFFLINE = 15

# Wear, in Lifetime.pre_eol_info
PRE_EOL_INFO_UNDEFINED = 0
PRE_EOL_INFO_NORMAL = 1
PRE_EOL_INFO_WARNING = 2
PRE_EOL_INFO_URGENT = 3

# Bits of DiscardWriteZeroes.flags
WRITE_ZEROES_FLAG_UNMAP = 1


# Device configuration layout
class Geometry(Struct, name="virtio_blk_geometry"):
    """Disk-style geometry."""

    cylinders = le16()
    heads = u8()
    sectors = u8()


class Topology(Struct, name="virtio_blk_topology"):
    """Alignment and transfer sizes, in logical blocks."""

    physical_block_exp = u8(doc="logical blocks per physical block, as a power of two")
    alignment_offset = u8(doc="offset of the first aligned logical block")
    min_io_size = le16(doc="suggested smallest transfer, in blocks")
    opt_io_size = le32(doc="suggested largest transfer, in blocks")


class Zoned(Struct, name="virtio_blk_zoned_characteristics"):
    """What a zoned device is like."""

    zone_sectors = le32()
    max_open_zones = le32()
    max_active_zones = le32()
    max_append_sectors = le32()
    write_granularity = le32(doc="bytes")
    model = u8(doc="one of Z_*")
    unused2 = u8(3)


class Config(Struct, name="virtio_blk_config"):
    """Configuration space."""

    capacity = le64(doc="512-byte sectors")
    size_max = le32(feature="SIZE_MAX", doc="bytes")
    seg_max = le32(feature="SEG_MAX")
    geometry = array(Geometry, feature="GEOMETRY")
    blk_size = le32(feature="BLK_SIZE", doc="bytes")
    topology = array(Topology, feature="TOPOLOGY")
    writeback = u8(feature="CONFIG_WCE", doc="0 writethrough, 1 writeback; the driver may write it")
    unused0 = u8()
    num_queues = le16(feature="MQ")
    max_discard_sectors = le32(feature="DISCARD")
    max_discard_seg = le32(feature="DISCARD")
    discard_sector_alignment = le32(feature="DISCARD", doc="sectors")
    max_write_zeroes_sectors = le32(feature="WRITE_ZEROES")
    max_write_zeroes_seg = le32(feature="WRITE_ZEROES")
    write_zeroes_may_unmap = u8(feature="WRITE_ZEROES")
    unused1 = u8(3)
    max_secure_erase_sectors = le32(feature="SECURE_ERASE")
    max_secure_erase_seg = le32(feature="SECURE_ERASE")
    secure_erase_sector_alignment = le32(feature="SECURE_ERASE", doc="sectors")
    zoned = array(Zoned, feature="ZONED")


# Device Operation
class ReqHeader(Struct, name="virtio_blk_req", part="readable"):
    """What every request begins with."""

    type = le32(doc="one of T_*")
    reserved = le32(doc="the priority on the legacy interface")
    sector = le64(doc="512-byte sectors; 0 unless the type uses it")


class ReqStatus(Struct, name="virtio_blk_req", part="writable"):
    """What every request ends with."""

    status = u8(doc="one of S_*")


class ZoneAppendStatus(Struct, name="virtio_blk_req_za", part="writable"):
    """What a ZONE_APPEND request ends with."""

    append_sector = le64(doc="where the data went")
    status = u8(doc="one of S_*")


class DiscardWriteZeroes(Struct, name="virtio_blk_discard_write_zeroes", part="readable"):
    """A segment of DISCARD, WRITE_ZEROES and SECURE_ERASE."""

    sector = le64()
    num_sectors = le32()
    flags = le32(doc="bit 0: unmap (WRITE_ZEROES only)")


class Lifetime(Struct, name="virtio_blk_lifetime", part="writable"):
    """The answer to GET_LIFETIME."""

    pre_eol_info = le16(doc="one of PRE_EOL_INFO_*")
    device_lifetime_est_typ_a = le16(doc="tenths of the estimated life used; 0 undefined")
    device_lifetime_est_typ_b = le16(doc="as typ_a, for the other kind of cells")


class ZoneDescriptor(Struct, name="virtio_blk_zone_descriptor", part="writable"):
    """One zone of a report, in sectors."""

    z_cap = le64()
    z_start = le64()
    z_wp = le64()
    z_type = u8(doc="one of ZT_*")
    z_state = u8(doc="one of ZS_*")
    reserved = u8(38)


class ZoneReport(Struct, name="virtio_blk_zone_report", part="writable"):
    """The answer to ZONE_REPORT."""

    nr_zones = le64()
    reserved = u8(56)
    zones = array(ZoneDescriptor, "nr_zones")


# Device Operation / Legacy Interface: Device Operation
class ScsiPcStatus(Struct, name="virtio_scsi_pc_req", part="writable"):
    """What a SCSI packet command ends with (legacy)."""

    sense = u8(96)
    errors = le32()
    data_len = le32()
    sense_len = le32()
    residual = le32()
    status = u8()


DEVICE = DeviceType(
    __name__,
    id=2,
    title="Block Device",
    prefix="VIRTIO_BLK_",
    queues=(Queue("requestq1", 0, repeat="requestq1 to requestqN, N = num_queues with MQ, else 1"),),
    config=Config,
    groups={
        "T_": "request types",
        "S_": "status of a request",
        "Z_": "zone models",
        "ZT_": "zone types",
        "ZS_": "zone states",
        "PRE_EOL_INFO_": "wear",
        "WRITE_ZEROES_FLAG_": "segment flags",
    },
)
