"""Media (virtio 1.4, "Device Types / Media Device").

Payloads are those of Video4Linux; the structures named v4l2_* are the kernel's, 64-bit layout.
"""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Queue
from virtio.spec.layout import Struct, array, le32, le64, u8

# Other numbers
MAX_PLANES = 8
MMAP = 1
SHARED_PAGES = 2
OBJECT = 4

# Commands
CMD_OPEN = 1
CMD_CLOSE = 2
CMD_IOCTL = 3
CMD_MMAP = 4
CMD_MUNMAP = 5

# Events
EVT_ERROR = 0
EVT_DQBUF = 1
EVT_EVENT = 2

# Flags of MMAP
MMAP_FLAG_RW = 1 << 0

# Shared memory regions
SHM_ID_MMAP = 0


# Device Configuration Layout
class Config(Struct, name="virtio_media_config"):
    """Configuration space."""

    device_caps = le32(doc="V4L2_CAP_*")
    device_type = le32(doc="VFL_TYPE_*")
    card = u8(32, doc="name, zero-terminated UTF-8")


# Device Operation: Command headers
class CmdHeader(Struct, name="virtio_media_cmd_header"):
    """What a command begins with."""

    cmd = le32(doc="one of CMD_*")
    reserved = le32()


class RespHeader(Struct, name="virtio_media_resp_header"):
    """What an answer begins with."""

    status = le32(doc="0 or a Linux errno")
    reserved = le32()


# Device Operation / Open Device
class CmdOpen(Struct, name="virtio_media_cmd_open"):
    """OPEN."""

    hdr = array(CmdHeader)


class RespOpen(Struct, name="virtio_media_resp_open"):
    """The answer to OPEN."""

    hdr = array(RespHeader)
    session_id = le32()
    reserved = le32()


# Device Operation: Close device
class CmdClose(Struct, name="virtio_media_cmd_close"):
    """CLOSE."""

    hdr = array(CmdHeader)
    session_id = le32()
    reserved = le32()


# Device Operation: V4L2 ioctls
class CmdIoctl(Struct, name="virtio_media_cmd_ioctl"):
    """IOCTL; the payload follows."""

    hdr = array(CmdHeader)
    session_id = le32()
    code = le32()


class RespIoctl(Struct, name="virtio_media_resp_ioctl"):
    """The answer to IOCTL; the payload follows."""

    hdr = array(RespHeader)


# Handling of pointers to userspace memory in ioctl payload
class SgEntry(Struct, name="virtio_media_sg_entry"):
    """A piece of guest memory."""

    start = le64()
    len = le32()
    reserved = le32()


# Device Operation: Mapping a MMAP buffer
class CmdMmap(Struct, name="virtio_media_cmd_mmap"):
    """MMAP."""

    hdr = array(CmdHeader)
    session_id = le32()
    flags = le32()
    offset = le32()


class RespMmap(Struct, name="virtio_media_resp_mmap"):
    """The answer to MMAP."""

    hdr = array(RespHeader)
    driver_addr = le64()
    len = le64()


# Device Operation: Unmapping a MMAP buffer
class CmdMunmap(Struct, name="virtio_media_cmd_munmap"):
    """MUNMAP."""

    hdr = array(CmdHeader)
    driver_addr = le64()


class RespMunmap(Struct, name="virtio_media_resp_munmap"):
    """The answer to MUNMAP."""

    hdr = array(RespHeader)


# Device Operation: Event header
class EventHeader(Struct, name="virtio_media_event_header"):
    """What an event begins with."""

    event = le32(doc="one of EVT_*")
    session_id = le32()


# Device Operation: Device-side error
class EventError(Struct, name="virtio_media_event_error"):
    """ERROR."""

    hdr = array(EventHeader)
    errno = le32()
    reserved = le32()


# Device Operation: Dequeue buffer
class EventDqbuf(Struct, name="virtio_media_event_dqbuf", part="writable"):
    """DQBUF."""

    hdr = array(EventHeader)
    buffer = u8(88, doc="struct v4l2_buffer")
    planes = u8(64 * MAX_PLANES, doc="struct v4l2_plane each")


# Device Operation: Emit an event
class EventEvent(Struct, name="virtio_media_event_event", part="writable"):
    """EVENT."""

    hdr = array(EventHeader)
    event = u8(136, doc="struct v4l2_event")


DEVICE = DeviceType(
    __name__,
    id=48,
    title="Media Device",
    prefix="VIRTIO_MEDIA_",
    queues=(
        Queue("commandq", 0),
        Queue("eventq", 1),
    ),
    config=Config,
    groups={
        "CMD_": "commands",
        "EVT_": "events",
        "MMAP_FLAG_": "flags of MMAP",
        "SHM_ID_": "shared memory regions",
    },
)
