"""SCSI host (virtio 1.4, "Device Types / SCSI Host Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le32, le64, u8

# Feature bits
F_INOUT = Feature(0, "a request may have data both ways")
F_HOTPLUG = Feature(1, "hot-plug events")
F_CHANGE = Feature(2, "LUN parameter change events")
F_T10_PI = Feature(3, "T10 protection information")

# Task management functions
T_TMF_ABORT_TASK = 0
T_TMF_ABORT_TASK_SET = 1
T_TMF_CLEAR_ACA = 2
T_TMF_CLEAR_TASK_SET = 3
T_TMF_I_T_NEXUS_RESET = 4
T_TMF_LOGICAL_UNIT_RESET = 5
T_TMF_QUERY_TASK = 6
T_TMF_QUERY_TASK_SET = 7

# Control requests and events
T_TMF = 0
T_AN_QUERY = 1
T_AN_SUBSCRIBE = 2
T_EVENTS_MISSED = 0x80000000
T_NO_EVENT = 0
T_TRANSPORT_RESET = 1
T_ASYNC_NOTIFY = 2
T_PARAM_CHANGE = 3

# Responses
S_OK = 0
S_OVERRUN = 1
S_ABORTED = 2
S_BAD_TARGET = 3
S_RESET = 4
S_BUSY = 5
S_TRANSPORT_FAILURE = 6
S_TARGET_FAILURE = 7
S_NEXUS_FAILURE = 8
S_FAILURE = 9
S_INCORRECT_LUN = 12
S_FUNCTION_COMPLETE = 0
S_FUNCTION_SUCCEEDED = 10
S_FUNCTION_REJECTED = 11

# Task attributes (S_ in the specification)
TASK_SIMPLE = 0
TASK_ORDERED = 1
TASK_HEAD = 2
TASK_ACA = 3

# Asynchronous notifications
EVT_ASYNC_OPERATIONAL_CHANGE = 2
EVT_ASYNC_POWER_MGMT = 4
EVT_ASYNC_EXTERNAL_REQUEST = 8
EVT_ASYNC_MEDIA_CHANGE = 16
EVT_ASYNC_MULTI_HOST = 32
EVT_ASYNC_DEVICE_BUSY = 64

# Reasons of a TRANSPORT_RESET
EVT_RESET_HARD = 0
EVT_RESET_RESCAN = 1
EVT_RESET_REMOVED = 2


# Device configuration layout
class Config(Struct, name="virtio_scsi_config"):
    """Configuration space."""

    num_queues = le32()
    seg_max = le32()
    max_sectors = le32()
    cmd_per_lun = le32()
    event_info_size = le32()
    sense_size = le32(doc="bytes; writable by the driver")
    cdb_size = le32(doc="bytes; writable by the driver")
    max_channel = le16()
    max_target = le16()
    max_lun = le32()


# Device Operation / Device Operation: Request Queues
class ReqCmd(Struct, name="virtio_scsi_req_cmd", part="readable"):
    """What a command begins with; with T10_PI a ReqCmdPi follows, then the data for the device."""

    lun = u8(8)
    id = le64()
    task_attr = u8(doc="one of TASK_*")
    prio = u8()
    crn = u8()
    cdb = u8("cdb_size", doc="as long as Config.cdb_size says, 32 unless changed")


class ReqCmdPi(Struct, name="virtio_scsi_req_cmd", part="readable"):
    """What follows ReqCmd with T10_PI, itself followed by the protection information and the data."""

    pi_bytesout = le32()
    pi_bytesin = le32()
    pi_out = u8("pi_bytesout")


class RespCmd(Struct, name="virtio_scsi_req_cmd", part="writable"):
    """The answer; protection information (with T10_PI) and data follow."""

    sense_len = le32()
    residual = le32()
    status_qualifier = le16()
    status = u8(doc="the SCSI status")
    response = u8(doc="one of S_*")
    sense = u8("sense_size", doc="as long as Config.sense_size says, 96 unless changed")


# Device Operation / Device Operation: controlq
class CtrlTmf(Struct, name="virtio_scsi_ctrl_tmf", part="readable"):
    """A task management function."""

    type = le32()
    subtype = le32(doc="one of T_TMF_*")
    lun = u8(8)
    id = le64()


class CtrlTmfResult(Struct, name="virtio_scsi_ctrl_tmf", part="writable"):
    """The answer to a task management function."""

    response = u8()


class CtrlAn(Struct, name="virtio_scsi_ctrl_an", part="readable"):
    """A query of or subscription to asynchronous notifications."""

    type = le32()
    lun = u8(8)
    event_requested = le32()


class CtrlAnResult(Struct, name="virtio_scsi_ctrl_an", part="writable"):
    """The answer to AN_QUERY and AN_SUBSCRIBE."""

    event_actual = le32()
    response = u8()


# Device Operation / Device Operation: eventq
class Event(Struct, name="virtio_scsi_event", part="writable"):
    """An event."""

    event = le32()
    lun = u8(8)
    reason = le32()


DEVICE = DeviceType(
    __name__,
    id=8,
    title="SCSI Host Device",
    prefix="VIRTIO_SCSI_",
    queues=(
        Queue("controlq", 0),
        Queue("eventq", 1),
        Queue("requestq", 2, repeat="num_queues request queues"),
    ),
    config=Config,
    groups={
        "T_TMF_": "task management functions",
        "T_": "control requests and events",
        "S_": "responses",
        "TASK_": "task attributes (S_ in the specification)",
        "EVT_ASYNC_": "asynchronous notifications",
        "EVT_RESET_": "reasons of a TRANSPORT_RESET",
    },
)
