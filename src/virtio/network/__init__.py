"""Where a NIC's frames go: links by URL, and the filters around them.

>>> link = open_link("null:")
>>> link.stats()
{'frames': 0, 'bytes': 0}

Links and filters load when they are first used.
"""

from collections.abc import Callable
from importlib import import_module

from virtio.errors import NetworkUrlError, UsageError
from virtio.network.link import Link, Sink
from virtio.network.null import LoopLink, NullLink
from virtio.network.url import (
    Form,
    Location,
    filter_forms,
    filters,
    link_forms,
    open_link,
    register,
    register_filter,
    schemes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from virtio.network.anti_spoof import AntiSpoofLink
    from virtio.network.buffers import put_buffers
    from virtio.network.capture import Capture, CaptureLink
    from virtio.network.filter import FilterLink, stack
    from virtio.network.flood import FloodLink
    from virtio.network.impair import ImpairLink, Impairment
    from virtio.network.python import PythonLink
    from virtio.network.replay import ReplayLink

__all__ = [
    "AntiSpoofLink",
    "Capture",
    "CaptureLink",
    "FilterLink",
    "FloodLink",
    "Form",
    "ImpairLink",
    "Impairment",
    "Link",
    "Location",
    "LoopLink",
    "NullLink",
    "PythonLink",
    "ReplayLink",
    "Sink",
    "filter_forms",
    "filters",
    "link_forms",
    "open_link",
    "put_buffers",
    "register",
    "register_filter",
    "schemes",
    "stack",
]

_SOURCES = {
    "AntiSpoofLink": ".anti_spoof",
    "Capture": ".capture",
    "CaptureLink": ".capture",
    "FilterLink": ".filter",
    "FloodLink": ".flood",
    "ImpairLink": ".impair",
    "Impairment": ".impair",
    "PythonLink": ".python",
    "ReplayLink": ".replay",
    "put_buffers": ".buffers",
    "stack": ".filter",
}

SIZES = ("size", "burst")
"""The options of ``flood:``."""
IMPAIRMENTS = (
    "delay", "jitter", "distribution", "loss", "gemodel", "duplicate", "corrupt", "reorder", "gap",
    "rate", "burst", "queue", "overhead", "exceed", "limit", "impair", "seed", "segments",
)  # fmt: skip
"""The options of `virtio.network.impair`."""


def __getattr__(name: str) -> "Any":
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_SOURCES[name], __name__), name)
    return value


def _open_null(location: Location) -> Link:
    location.only()
    return NullLink()


def _open_loop(location: Location) -> Link:
    location.only()
    return LoopLink()


def _open_flood(location: Location) -> Link:
    from virtio.network.flood import FloodLink

    location.only(*SIZES)
    try:
        return FloodLink(**{name: int(value) for name, value in location.options.items() if name in SIZES})
    except (ValueError, UsageError) as error:
        raise NetworkUrlError(f"{location.url}: {error}") from None


def _allow(link: Link, location: Location) -> Link:
    """Put the allow-list of ``allow=`` (and ``resolver=``) around a link."""
    from virtio.network.allow import AllowLink
    from virtio.network.options import several
    from virtio.network.policy import Policy

    return AllowLink(link, Policy(several(location, "allow"), several(location, "resolver")))


def _later(module: str, opener: str) -> Callable[[Location], Link]:
    """An opener whose module is imported when it is first used."""

    def opened(location: Location) -> Link:
        link: Link = getattr(import_module(module, __name__), opener)(location)
        return link

    return opened


def _filter_later(module: str, wrapper: str) -> Callable[[Link, Location], Link]:
    """A filter whose module is imported when it is first used."""

    def wrapped(link: Link, location: Location) -> Link:
        outer: Link = getattr(import_module(module, __name__), wrapper)(link, location)
        return outer

    return wrapped


register("null", _open_null, about="takes every frame; nothing ever comes")
register("loop", _open_loop, about="sends every frame back")
register("flood", _open_flood, "flood:?size=BYTES", "sends frames as fast as they are taken")
register("user", _later(".user", "open_user"), about="wherever this host's programs can go, by passt")
register("switch", _later(".switch.named", "open_switch"), "switch:NAME", "a port of a learning switch")
register("tap", _later(".tap", "open_tap"), "tap:NAME", "an interface of the host")
register("macvtap", _later(".macvtap", "open_macvtap"), "macvtap:PARENT", "the wire of a host's interface")
register("stream", _later(".sockets", "open_stream"), "stream:ADDRESS", "QEMU's -netdev stream")
register("dgram", _later(".sockets", "open_dgram"), "dgram:ADDRESS", "QEMU's -netdev dgram")
register("pcap", _later(".filter_options", "open_replay"), "pcap:FILE", "replays a capture")
register(
    "python", _later(".filter_options", "open_python"), "python:MODULE:FUNCTION", "a function for each frame"
)

# From the world to the guest: the capture nearest to the guest shows what it sends and gets.
register_filter(
    _filter_later(".filter_options", "capture_wire"),
    "pcap-wire",
    form="pcap-wire=FILE",
    about="record what passes beyond all other filters",
)
register_filter(
    _filter_later(".impair", "wrap"),
    *IMPAIRMENTS,
    form="delay=10ms&loss=1%&rate=10mbit...",
    about="impair: also jitter, duplicate, corrupt, reorder and more, as tc-netem's",
)
register_filter(
    _allow, "allow", "resolver", form="allow=NAME+NETWORK...", about="drop what does not go to these"
)
register_filter(
    _filter_later(".filter_options", "guard"),
    "only-mac",
    "only-ip",
    form="only-mac=MAC&only-ip=ADDRESS,...",
    about="drop what does not come from these",
)
register_filter(
    _filter_later(".filter_options", "capture"),
    "pcap",
    "snaplen",
    form="pcap=FILE&snaplen=BYTES",
    about="record what the guest sends and gets",
)
