"""Where a NIC's frames go: links by URL, and the filters around them.

>>> link = open_link("null:")
>>> link.stats()
{'frames': 0, 'bytes': 0}
"""

from virtio.network.link import Link, Sink
from virtio.network.null import LoopLink, NullLink
from virtio.network.url import Location, filters, open_link, register, register_filter, schemes

__all__ = [
    "Link",
    "Location",
    "LoopLink",
    "NullLink",
    "Sink",
    "filters",
    "open_link",
    "register",
    "register_filter",
    "schemes",
]


def _open_null(location: Location) -> Link:
    location.only()
    return NullLink()


def _open_loop(location: Location) -> Link:
    location.only()
    return LoopLink()


register("null", _open_null)
register("loop", _open_loop)
