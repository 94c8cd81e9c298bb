"""Where a NIC's frames go: links by URL, and the filters around them.

>>> link = open_link("null:")
>>> link.stats()
{'frames': 0, 'bytes': 0}
"""

from virtio.network import filter_options, impair
from virtio.network.anti_spoof import AntiSpoofLink
from virtio.network.buffers import put_buffers
from virtio.network.capture import Capture, CaptureLink
from virtio.network.filter import FilterLink, stack
from virtio.network.impair import ImpairLink, Impairment
from virtio.network.link import Link, Sink
from virtio.network.null import LoopLink, NullLink
from virtio.network.python import PythonLink
from virtio.network.replay import ReplayLink
from virtio.network.url import Location, filters, open_link, register, register_filter, schemes

__all__ = [
    "AntiSpoofLink",
    "Capture",
    "CaptureLink",
    "FilterLink",
    "ImpairLink",
    "Impairment",
    "Link",
    "Location",
    "LoopLink",
    "NullLink",
    "PythonLink",
    "ReplayLink",
    "Sink",
    "filters",
    "open_link",
    "put_buffers",
    "register",
    "register_filter",
    "schemes",
    "stack",
]


def _open_null(location: Location) -> Link:
    location.only()
    return NullLink()


def _open_loop(location: Location) -> Link:
    location.only()
    return LoopLink()


register("null", _open_null)
register("loop", _open_loop)
register("pcap", filter_options.open_replay)
register("python", filter_options.open_python)

# From the world to the guest: the capture nearest to the guest shows what it sends and gets.
register_filter(filter_options.capture_wire, "pcap-wire")
register_filter(impair.wrap, *impair.OPTIONS)
register_filter(filter_options.guard, "mac", "ip")
register_filter(filter_options.capture, "pcap", "snaplen")
