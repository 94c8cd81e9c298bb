"""Where a NIC's frames go: links by URL, and the filters around them.

>>> link = open_link("null:")
>>> link.stats()
{'frames': 0, 'bytes': 0}
"""

from virtio.errors import NetworkUrlError, UsageError
from virtio.network.flood import FloodLink
from virtio.network.link import Link, Sink
from virtio.network.null import LoopLink, NullLink
from virtio.network.url import Location, filters, open_link, register, register_filter, schemes

__all__ = [
    "FloodLink",
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

SIZES = ("size", "burst")  # options of flood:


def _open_null(location: Location) -> Link:
    location.only()
    return NullLink()


def _open_loop(location: Location) -> Link:
    location.only()
    return LoopLink()


def _open_flood(location: Location) -> Link:
    location.only(*SIZES)
    try:
        return FloodLink(**{name: int(value) for name, value in location.options.items() if name in SIZES})
    except (ValueError, UsageError) as error:
        raise NetworkUrlError(f"{location.url}: {error}") from None


register("flood", _open_flood)


def _open_switch(location: Location) -> Link:
    from virtio.network.switch.named import open_switch

    return open_switch(location)


register("switch", _open_switch)
register("null", _open_null)
register("loop", _open_loop)
