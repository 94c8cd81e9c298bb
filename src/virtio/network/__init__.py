"""Where a NIC's frames go: links by URL, and the filters around them.

>>> link = open_link("null:")
>>> link.stats()
{'frames': 0, 'bytes': 0}
"""

from collections.abc import Callable
from importlib import import_module

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


def _later(module: str, opener: str) -> Callable[[Location], Link]:
    """An opener whose module is imported when it is first used."""

    def opened(location: Location) -> Link:
        link: Link = getattr(import_module(module, __name__), opener)(location)
        return link

    return opened


register("null", _open_null)
register("loop", _open_loop)
register("tap", _later(".tap", "open_tap"))
register("macvtap", _later(".macvtap", "open_macvtap"))
register("stream", _later(".sockets", "open_stream"))
register("dgram", _later(".sockets", "open_dgram"))
register("user", _later(".user", "open_user"))
