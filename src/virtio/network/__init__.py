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


def _allow(link: Link, location: Location) -> Link:
    """Put the allow-list of ``allow=`` (and ``resolver=``) around a link."""
    from virtio.network.allow import AllowLink
    from virtio.network.options import several
    from virtio.network.policy import Policy

    return AllowLink(link, Policy(several(location, "allow"), several(location, "resolver")))


register_filter(_allow, "allow", "resolver")
register("null", _open_null)
register("loop", _open_loop)
register("tap", _later(".tap", "open_tap"))
register("macvtap", _later(".macvtap", "open_macvtap"))
register("stream", _later(".sockets", "open_stream"))
register("dgram", _later(".sockets", "open_dgram"))
register("user", _later(".user", "open_user"))
