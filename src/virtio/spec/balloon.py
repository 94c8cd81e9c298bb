"""Traditional memory balloon (virtio 1.4, "Device Types / Memory Balloon Device")."""

from __future__ import annotations

from virtio.spec.declare import DeviceType, Feature, Queue
from virtio.spec.layout import Struct, le16, le32, le64

# Feature bits
F_MUST_TELL_HOST = Feature(0, "the device is told before pages are taken back")
F_STATS_VQ = Feature(1, "memory statistics")
F_DEFLATE_ON_OOM = Feature(2, "the driver deflates when out of memory")
F_FREE_PAGE_HINT = Feature(3, "hints of free pages")
F_PAGE_POISON = Feature(4, "pages are filled with poison_val after deflating")
F_PAGE_REPORTING = Feature(5, "reports of free pages")

# Other numbers
PAGE_SIZE = 4096

# Statistics
S_SWAP_IN = 0
S_SWAP_OUT = 1
S_MAJFLT = 2
S_MINFLT = 3
S_MEMFREE = 4
S_MEMTOT = 5
S_AVAIL = 6
S_CACHES = 7
S_HTLB_PGALLOC = 8
S_HTLB_PGFAIL = 9

# Free page hinting commands
CMD_ID_STOP = 0
CMD_ID_DONE = 1


# Device configuration layout
class Config(Struct, name="virtio_balloon_config"):
    """Configuration space; little-endian on the legacy interface too."""

    num_pages = le32(doc="pages of 4096 bytes wanted")
    actual = le32(doc="pages in the balloon; written by the driver")
    free_page_hint_cmd_id = le32(feature="FREE_PAGE_HINT", doc="one of CMD_ID_* or a command")
    poison_val = le32(feature="PAGE_POISON", doc="written by the driver")


# Device Operation / Memory Statistics
class Stat(Struct, name="virtio_balloon_stat"):
    """One statistic."""

    tag = le16(doc="one of S_*")
    val = le64()


DEVICE = DeviceType(
    __name__,
    id=5,
    title="Memory Balloon Device",
    prefix="VIRTIO_BALLOON_",
    queues=(
        Queue("inflateq", 0),
        Queue("deflateq", 1),
        Queue("statsq", 2, feature="STATS_VQ"),
        Queue("free_page_vq", 3, feature="FREE_PAGE_HINT"),
        Queue("reporting_vq", 4, feature="PAGE_REPORTING"),
    ),
    config=Config,
    groups={
        "S_": "statistics",
        "CMD_ID_": "free page hinting commands",
    },
)
