"""Real-time clock (virtio 1.4, "Device Types / RTC Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, array, le16, le64, u8

# Feature bits
F_ALARM = Feature(0, "alarms")

# Requests
REQ_CFG = 0x1000
REQ_CLOCK_CAP = 0x1001
REQ_CROSS_CAP = 0x1002
REQ_READ = 0x0001
REQ_READ_CROSS = 0x0002
REQ_READ_ALARM = 0x1003
REQ_SET_ALARM = 0x1004
REQ_SET_ALARM_ENABLED = 0x1005

# Notifications
NOTIF_ALARM = 0x2000

# Status
S_OK = 0
S_EOPNOTSUPP = 2
S_ENODEV = 3
S_EINVAL = 4
S_EIO = 5

# Clocks
CLOCK_UTC = 0
CLOCK_TAI = 1
CLOCK_MONOTONIC = 2
CLOCK_UTC_SMEARED = 3
CLOCK_UTC_MAYBE_SMEARED = 4

# Leap second smearing
SMEAR_UNSPECIFIED = 0
SMEAR_NOON_LINEAR = 1
SMEAR_UTC_SLS = 2

# Hardware counters
COUNTER_ARM_VCT = 0
COUNTER_X86_TSC = 1
COUNTER_INVALID = 0xFF

# Flags
FLAG_ALARM_CAP = 1 << 0
FLAG_CROSS_CAP = 1 << 0
FLAG_ALARM_ENABLED = 1 << 0


# Device Operation
class ReqHead(Struct, name="virtio_rtc_req_head"):
    """What a request begins with."""

    msg_type = le16(doc="one of REQ_*")
    reserved = u8(6)


class RespHead(Struct, name="virtio_rtc_resp_head"):
    """What an answer begins with."""

    status = u8(doc="one of S_*")
    reserved = u8(7)


# Device Operation / Control Requests
class ReqCfg(Struct, name="virtio_rtc_req_cfg"):
    """REQ_CFG."""

    head = array(ReqHead)


class RespCfg(Struct, name="virtio_rtc_resp_cfg"):
    """The answer to REQ_CFG."""

    head = array(RespHead)
    num_clocks = le16()
    reserved = u8(6)


class ReqClockCap(Struct, name="virtio_rtc_req_clock_cap"):
    """REQ_CLOCK_CAP."""

    head = array(ReqHead)
    clock_id = le16()
    reserved = u8(6)


class RespClockCap(Struct, name="virtio_rtc_resp_clock_cap"):
    """The answer to REQ_CLOCK_CAP."""

    head = array(RespHead)
    type = u8(doc="one of CLOCK_*")
    leap_second_smearing = u8(doc="one of SMEAR_*")
    flags = u8()
    reserved = u8(5)


class ReqCrossCap(Struct, name="virtio_rtc_req_cross_cap"):
    """REQ_CROSS_CAP."""

    head = array(ReqHead)
    clock_id = le16()
    hw_counter = u8(doc="one of COUNTER_*")
    reserved = u8(5)


class RespCrossCap(Struct, name="virtio_rtc_resp_cross_cap"):
    """The answer to REQ_CROSS_CAP."""

    head = array(RespHead)
    flags = u8()
    reserved = u8(7)


# Device Operation / Read Requests
class ReqRead(Struct, name="virtio_rtc_req_read"):
    """REQ_READ."""

    head = array(ReqHead)
    clock_id = le16()
    reserved = u8(6)


class RespRead(Struct, name="virtio_rtc_resp_read"):
    """The answer to REQ_READ."""

    head = array(RespHead)
    clock_reading = le64(doc="nanoseconds")


class ReqReadCross(Struct, name="virtio_rtc_req_read_cross"):
    """REQ_READ_CROSS."""

    head = array(ReqHead)
    clock_id = le16()
    hw_counter = u8(doc="one of COUNTER_*")
    reserved = u8(5)


class RespReadCross(Struct, name="virtio_rtc_resp_read_cross"):
    """The answer to REQ_READ_CROSS."""

    head = array(RespHead)
    clock_reading = le64(doc="nanoseconds")
    counter_cycles = le64()


# Alarm Control Requests
class ReqReadAlarm(Struct, name="virtio_rtc_req_read_alarm"):
    """REQ_READ_ALARM."""

    head = array(ReqHead)
    clock_id = le16()
    reserved = u8(6)


class RespReadAlarm(Struct, name="virtio_rtc_resp_read_alarm"):
    """The answer to REQ_READ_ALARM."""

    head = array(RespHead)
    alarm_time = le64(doc="nanoseconds")
    flags = u8()
    reserved = u8(7)


class ReqSetAlarm(Struct, name="virtio_rtc_req_set_alarm"):
    """REQ_SET_ALARM."""

    head = array(ReqHead)
    alarm_time = le64(doc="nanoseconds")
    clock_id = le16()
    flags = u8()
    reserved = u8(5)


class RespSetAlarm(Struct, name="virtio_rtc_resp_set_alarm"):
    """The answer to REQ_SET_ALARM."""

    head = array(RespHead)


class ReqSetAlarmEnabled(Struct, name="virtio_rtc_req_set_alarm_enabled"):
    """REQ_SET_ALARM_ENABLED."""

    head = array(ReqHead)
    clock_id = le16()
    flags = u8()
    reserved = u8(5)


class RespSetAlarmEnabled(Struct, name="virtio_rtc_resp_set_alarm_enabled"):
    """The answer to REQ_SET_ALARM_ENABLED."""

    head = array(RespHead)


# Alarm Notifications
class NotifHead(Struct, name="virtio_rtc_notif_head"):
    """What a notification begins with."""

    msg_type = le16(doc="one of NOTIF_*")
    reserved = u8(6)


class NotifAlarm(Struct, name="virtio_rtc_notif_alarm"):
    """An alarm expired."""

    head = array(NotifHead)
    clock_id = le16()
    reserved = u8(6)


DEVICE = DeviceType(
    __name__,
    id=17,
    title="RTC Device",
    prefix="VIRTIO_RTC_",
    queues=(
        Queue("requestq", 0),
        Queue("alarmq", 1, feature="ALARM"),
    ),
    groups={
        "REQ_": "requests",
        "NOTIF_": "notifications",
        "S_": "status",
        "CLOCK_": "clocks",
        "SMEAR_": "leap second smearing",
        "COUNTER_": "hardware counters",
        "FLAG_": "flags",
    },
)
