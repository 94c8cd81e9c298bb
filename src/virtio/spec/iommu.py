"""IOMMU (virtio 1.4, "Device Types / IOMMU Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, array, le16, le32, le64, u8

# Feature bits
F_INPUT_RANGE = Feature(0, "input_range is valid")
F_DOMAIN_RANGE = Feature(1, "domain_range is valid")
F_MAP_UNMAP = Feature(2, "MAP and UNMAP requests")
F_BYPASS = Feature(3, "endpoints without a domain bypass the IOMMU")
F_PROBE = Feature(4, "PROBE requests")
F_MMIO = Feature(5, "the MMIO flag of MAP")
F_BYPASS_CONFIG = Feature(6, "bypass says which endpoints bypass the IOMMU")

# Requests
T_ATTACH = 1
T_DETACH = 2
T_MAP = 3
T_UNMAP = 4
T_PROBE = 5

# Status of a request
S_OK = 0
S_IOERR = 1
S_UNSUPP = 2
S_DEVERR = 3
S_INVAL = 4
S_RANGE = 5
S_NOENT = 6
S_FAULT = 7
S_NOMEM = 8

# Flags of ATTACH
ATTACH_F_BYPASS = 1 << 0

# Flags of MAP
MAP_F_READ = 1 << 0
MAP_F_WRITE = 1 << 1
MAP_F_MMIO = 1 << 2

# Properties
PROBE_T_RESV_MEM = 1

# Kinds of reserved ranges
RESV_MEM_T_RESERVED = 0
RESV_MEM_T_MSI = 1

# Reasons of a fault
FAULT_R_UNKNOWN = 0
FAULT_R_DOMAIN = 1
FAULT_R_MAPPING = 2

# Flags of a fault
FAULT_F_READ = 1 << 0
FAULT_F_WRITE = 1 << 1
FAULT_F_ADDRESS = 1 << 8


# Device configuration layout
class Range64(Struct, name="virtio_iommu_range_64"):
    """A range of addresses, both ends within."""

    start = le64()
    end = le64()


class Range32(Struct, name="virtio_iommu_range_32"):
    """A range of domains, both ends within."""

    start = le32()
    end = le32()


class Config(Struct, name="virtio_iommu_config"):
    """Configuration space."""

    page_size_mask = le64()
    input_range = array(Range64, feature="INPUT_RANGE")
    domain_range = array(Range32, feature="DOMAIN_RANGE")
    probe_size = le32(feature="PROBE")
    bypass = u8(feature="BYPASS_CONFIG", doc="writable by the driver")
    reserved = u8(3)


# Device operations
class ReqHead(Struct, name="virtio_iommu_req_head"):
    """What a request begins with."""

    type = u8(doc="one of T_*")
    reserved = u8(3)


class ReqTail(Struct, name="virtio_iommu_req_tail"):
    """What a request ends with."""

    status = u8(doc="one of S_*")
    reserved = u8(3)


# Device operations / ATTACH request
class ReqAttach(Struct, name="virtio_iommu_req_attach"):
    """ATTACH."""

    head = array(ReqHead)
    domain = le32()
    endpoint = le32()
    flags = le32()
    reserved = u8(4)
    tail = array(ReqTail)


# DETACH request
class ReqDetach(Struct, name="virtio_iommu_req_detach"):
    """DETACH."""

    head = array(ReqHead)
    domain = le32()
    endpoint = le32()
    reserved = u8(8)
    tail = array(ReqTail)


# Device operations / MAP request
class ReqMap(Struct, name="virtio_iommu_req_map"):
    """MAP."""

    head = array(ReqHead)
    domain = le32()
    virt_start = le64()
    virt_end = le64()
    phys_start = le64()
    flags = le32()
    tail = array(ReqTail)


# Device operations / UNMAP request
class ReqUnmap(Struct, name="virtio_iommu_req_unmap"):
    """UNMAP."""

    head = array(ReqHead)
    domain = le32()
    virt_start = le64()
    virt_end = le64()
    reserved = u8(4)
    tail = array(ReqTail)


# Device operations / PROBE request
class ReqProbe(Struct, name="virtio_iommu_req_probe", part="readable"):
    """PROBE."""

    head = array(ReqHead)
    endpoint = le32()
    reserved = u8(64)


class RespProbe(Struct, name="virtio_iommu_req_probe", part="writable"):
    """The answer to PROBE."""

    properties = u8("probe_size", doc="ProbeProperty after ProbeProperty; Config.probe_size bytes")
    tail = array(ReqTail)


class ProbeProperty(Struct, name="virtio_iommu_probe_property"):
    """What a property begins with."""

    type = le16(doc="bits 0 to 11: one of PROBE_T_*")
    length = le16(doc="bytes that follow")


# Device operations / PROBE properties / RESVMEM
class ProbeResvMem(Struct, name="virtio_iommu_probe_resv_mem"):
    """A reserved range of addresses."""

    head = array(ProbeProperty)
    subtype = u8(doc="one of RESV_MEM_T_*")
    reserved = u8(3)
    start = le64()
    end = le64()


# Device operations / Fault reporting
class Fault(Struct, name="virtio_iommu_fault"):
    """An event: an access that failed."""

    reason = u8(doc="one of FAULT_R_*")
    reserved = u8(3)
    flags = le32(doc="bits FAULT_F_*")
    endpoint = le32()
    reserved1 = le32()
    address = le64()


DEVICE = DeviceType(
    __name__,
    id=23,
    title="IOMMU Device",
    prefix="VIRTIO_IOMMU_",
    queues=(
        Queue("requestq", 0),
        Queue("eventq", 1),
    ),
    config=Config,
    groups={
        "T_": "requests",
        "S_": "status of a request",
        "ATTACH_F_": "flags of ATTACH",
        "MAP_F_": "flags of MAP",
        "PROBE_T_": "properties",
        "RESV_MEM_T_": "kinds of reserved ranges",
        "FAULT_R_": "reasons of a fault",
        "FAULT_F_": "flags of a fault",
    },
)
