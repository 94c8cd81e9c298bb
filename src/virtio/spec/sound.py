"""Sound (virtio 1.4, "Device Types / Sound Device").

Control elements are in ``sound_ctl``.
"""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, array, le32, le64, u8

# Feature bits
F_CTLS = Feature(0, "control elements")

# Requests
R_JACK_INFO = 1
R_JACK_REMAP = 2
R_PCM_INFO = 0x0100
R_PCM_SET_PARAMS = 0x0101
R_PCM_PREPARE = 0x0102
R_PCM_RELEASE = 0x0103
R_PCM_START = 0x0104
R_PCM_STOP = 0x0105
R_CHMAP_INFO = 0x0200
R_CTL_INFO = 0x0300
R_CTL_ENUM_ITEMS = 0x0301
R_CTL_READ = 0x0302
R_CTL_WRITE = 0x0303
R_CTL_TLV_READ = 0x0304
R_CTL_TLV_WRITE = 0x0305
R_CTL_TLV_COMMAND = 0x0306

# Events
EVT_JACK_CONNECTED = 0x1000
EVT_JACK_DISCONNECTED = 0x1001
EVT_PCM_PERIOD_ELAPSED = 0x1100
EVT_PCM_XRUN = 0x1101
EVT_CTL_NOTIFY = 0x1200

# Status
S_OK = 0x8000
S_BAD_MSG = 0x8001
S_NOT_SUPP = 0x8002
S_IO_ERR = 0x8003

# Directions
D_OUTPUT = 0
D_INPUT = 1

# Bit numbers of jack features
JACK_F_REMAP = 0

# Bit numbers of PCM features
PCM_F_SHMEM_HOST = 0
PCM_F_SHMEM_GUEST = 1
PCM_F_MSG_POLLING = 2
PCM_F_EVT_SHMEM_PERIODS = 3
PCM_F_EVT_XRUNS = 4

# Sample formats
PCM_FMT_IMA_ADPCM = 0
PCM_FMT_MU_LAW = 1
PCM_FMT_A_LAW = 2
PCM_FMT_S8 = 3
PCM_FMT_U8 = 4
PCM_FMT_S16 = 5
PCM_FMT_U16 = 6
PCM_FMT_S18_3 = 7
PCM_FMT_U18_3 = 8
PCM_FMT_S20_3 = 9
PCM_FMT_U20_3 = 10
PCM_FMT_S24_3 = 11
PCM_FMT_U24_3 = 12
PCM_FMT_S20 = 13
PCM_FMT_U20 = 14
PCM_FMT_S24 = 15
PCM_FMT_U24 = 16
PCM_FMT_S32 = 17
PCM_FMT_U32 = 18
PCM_FMT_FLOAT = 19
PCM_FMT_FLOAT64 = 20
PCM_FMT_DSD_U8 = 21
PCM_FMT_DSD_U16 = 22
PCM_FMT_DSD_U32 = 23
PCM_FMT_IEC958_SUBFRAME = 24

# Frame rates
PCM_RATE_5512 = 0
PCM_RATE_8000 = 1
PCM_RATE_11025 = 2
PCM_RATE_16000 = 3
PCM_RATE_22050 = 4
PCM_RATE_32000 = 5
PCM_RATE_44100 = 6
PCM_RATE_48000 = 7
PCM_RATE_64000 = 8
PCM_RATE_88200 = 9
PCM_RATE_96000 = 10
PCM_RATE_176400 = 11
PCM_RATE_192000 = 12
PCM_RATE_384000 = 13
PCM_RATE_12000 = 14
PCM_RATE_24000 = 15

# Channel positions
CHMAP_MAX_SIZE = 18
CHMAP_NONE = 0
CHMAP_NA = 1
CHMAP_MONO = 2
CHMAP_FL = 3
CHMAP_FR = 4
CHMAP_RL = 5
CHMAP_RR = 6
CHMAP_FC = 7
CHMAP_LFE = 8
CHMAP_SL = 9
CHMAP_SR = 10
CHMAP_RC = 11
CHMAP_FLC = 12
CHMAP_FRC = 13
CHMAP_RLC = 14
CHMAP_RRC = 15
CHMAP_FLW = 16
CHMAP_FRW = 17
CHMAP_FLH = 18
CHMAP_FCH = 19
CHMAP_FRH = 20
CHMAP_TC = 21
CHMAP_TFL = 22
CHMAP_TFR = 23
CHMAP_TFC = 24
CHMAP_TRL = 25
CHMAP_TRR = 26
CHMAP_TRC = 27
CHMAP_TFLC = 28
CHMAP_TFRC = 29
CHMAP_TSL = 30
CHMAP_TSR = 31
CHMAP_LLFE = 32
CHMAP_RLFE = 33
CHMAP_BC = 34
CHMAP_BLC = 35
CHMAP_BRC = 36


# Device Configuration Layout
class Config(Struct, name="virtio_snd_config"):
    """Configuration space."""

    jacks = le32()
    streams = le32()
    chmaps = le32()
    controls = le32(feature="CTLS")


# Device Operation
class Hdr(Struct, name="virtio_snd_hdr"):
    """What a control request and its answer begin with."""

    code = le32(doc="one of R_*, EVT_* or S_*")


class Event(Struct, name="virtio_snd_event"):
    """An event."""

    hdr = array(Hdr)
    data = le32()


# Device Operation / Item Information Request
class QueryInfo(Struct, name="virtio_snd_query_info"):
    """A request for information on items."""

    hdr = array(Hdr)
    start_id = le32()
    count = le32()
    size = le32()


class Info(Struct, name="virtio_snd_info"):
    """What the information on an item begins with."""

    hda_fn_nid = le32()


# Device Operation / Jack Control Messages
class JackHdr(Struct, name="virtio_snd_jack_hdr"):
    """What a jack request begins with."""

    hdr = array(Hdr)
    jack_id = le32()


# VIRTIO_SND_R_JACK_INFO
class JackInfo(Struct, name="virtio_snd_jack_info"):
    """A jack."""

    hdr = array(Info)
    features = le32(doc="bits 1 << JACK_F_*")
    hda_reg_defconf = le32()
    hda_reg_caps = le32()
    connected = u8()
    padding = u8(7)


# VIRTIO_SND_R_JACK_REMAP
class JackRemap(Struct, name="virtio_snd_jack_remap"):
    """JACK_REMAP."""

    hdr = array(JackHdr)
    association = le32()
    sequence = le32()


# Device Operation / PCM Control Messages
class PcmHdr(Struct, name="virtio_snd_pcm_hdr"):
    """What a PCM request begins with."""

    hdr = array(Hdr)
    stream_id = le32()


# VIRTIO_SND_R_PCM_INFO
class PcmInfo(Struct, name="virtio_snd_pcm_info"):
    """A PCM stream."""

    hdr = array(Info)
    features = le32(doc="bits 1 << PCM_F_*")
    formats = le64(doc="bits 1 << PCM_FMT_*")
    rates = le64(doc="bits 1 << PCM_RATE_*")
    direction = u8(doc="one of D_*")
    channels_min = u8()
    channels_max = u8()
    padding = u8(5)


# Device Operation / PCM Stream Parameters
class PcmSetParams(Struct, name="virtio_snd_pcm_set_params"):
    """PCM_SET_PARAMS."""

    hdr = array(PcmHdr)
    buffer_bytes = le32()
    period_bytes = le32()
    features = le32()
    channels = u8()
    format = u8()
    rate = u8()
    padding = u8()


# Device Operation / PCM IO Messages
class PcmXfer(Struct, name="virtio_snd_pcm_xfer"):
    """What a PCM message begins with; frames follow."""

    stream_id = le32()


class PcmStatus(Struct, name="virtio_snd_pcm_status"):
    """What a PCM message ends with."""

    status = le32()
    latency_bytes = le32()


# VIRTIO_SND_R_CHMAP_INFO
class ChmapInfo(Struct, name="virtio_snd_chmap_info"):
    """A channel map."""

    hdr = array(Info)
    direction = u8()
    channels = u8()
    positions = u8(CHMAP_MAX_SIZE, doc="CHMAP_*")


DEVICE = DeviceType(
    __name__,
    id=25,
    title="Sound Device",
    prefix="VIRTIO_SND_",
    queues=(
        Queue("controlq", 0),
        Queue("eventq", 1),
        Queue("txq", 2),
        Queue("rxq", 3),
    ),
    config=Config,
    groups={
        "R_": "requests",
        "EVT_": "events",
        "S_": "status",
        "D_": "directions",
        "JACK_F_": "bit numbers of jack features",
        "PCM_F_": "bit numbers of PCM features",
        "PCM_FMT_": "sample formats",
        "PCM_RATE_": "frame rates",
        "CHMAP_": "channel positions",
        "CTL_ROLE_": "what a control element is for",
        "CTL_TYPE_": "what its value is",
        "CTL_ACCESS_": "bit numbers of its access",
        "CTL_EVT_MASK_": "bit numbers of what changed",
    },
    more=("virtio.spec.sound_ctl",),
)
