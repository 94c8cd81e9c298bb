"""Filters and their like by the options of a URL; each loads what it needs."""

from __future__ import annotations

from virtio.errors import NetworkUrlError
from virtio.network.link import Link
from virtio.network.units import parse_size
from virtio.network.url import Location

__all__ = ["capture", "capture_wire", "guard", "open_python", "open_replay"]

OWN = ("only-mac", "only-ip")


def _choose(location: Location, name: str, words: tuple[str, ...]) -> str:
    value = location.options.get(name, words[0])
    if value not in words:
        raise NetworkUrlError(f"{name}={value}: {name} is {' or '.join(words)}")
    return value


def _capture(link: Link, location: Location, option: str) -> Link:
    from virtio.network.capture import Capture, CaptureLink

    if not location.options[option]:
        raise NetworkUrlError(f"{option}=: {option} is the file to capture to")
    try:
        snaplen = parse_size(location.options.get("snaplen", "0"))
    except ValueError as error:
        raise NetworkUrlError(f"snaplen={location.options['snaplen']}: snaplen is {error}") from None
    return CaptureLink(link, Capture(location.options[option], link.name, snaplen=min(snaplen, 2**31)))


def capture(link: Link, location: Location) -> Link:
    """``pcap=FILE``: what the guest sends and gets. ``snaplen=`` alone makes no sense."""
    if "pcap" in location.options:
        return _capture(link, location, "pcap")
    if "pcap-wire" not in location.options:
        raise NetworkUrlError("snaplen needs pcap=FILE")
    return link


def capture_wire(link: Link, location: Location) -> Link:
    """``pcap-wire=FILE``: what passes beyond all other filters."""
    return _capture(link, location, "pcap-wire")


def guard(link: Link, location: Location) -> Link:
    """``only-mac=`` and ``only-ip=``: what the guest may send from, separated by commas."""
    from virtio.network.anti_spoof import AntiSpoofLink

    lists = [location.options.get(name) for name in OWN]
    for name, text in zip(OWN, lists, strict=True):
        if text == "":
            raise NetworkUrlError(f"{name}=: {name} lists the addresses that the guest may use")
    macs, ips = ([part.strip() for part in text.split(",")] if text else [] for text in lists)
    return AntiSpoofLink(link, macs, ips)


def open_python(location: Location) -> Link:
    """``python:MODULE:FUNCTION``."""
    from virtio.network.python import PythonLink, find_handler

    location.only()
    return PythonLink(find_handler(location.rest))


def _speed(location: Location) -> float | None:
    text = "max" if "max" in location.options else location.options.get("speed", "1")
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1e-6 <= speed <= 1e6:
        raise NetworkUrlError(f"speed={text}: speed is a factor such as 0.5 or 10, or max")
    return speed


def _loops(location: Location) -> int:
    text = location.options.get("loop", "1")
    if text in ("", "forever"):
        return 0
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        raise NetworkUrlError(f"loop={text}: loop is a number of rounds or forever")
    return int(text)


def open_replay(location: Location) -> Link:
    """``pcap:FILE``, with ``speed=``, ``max``, ``loop=``, ``direction=`` and ``damaged=``."""
    from virtio.network.replay import DIRECTIONS, ReplayLink

    location.only("speed", "max", "loop", "direction", "damaged")
    if not location.rest:
        raise NetworkUrlError(f"{location.url}: write pcap:FILE")
    return ReplayLink(
        location.rest,
        speed=_speed(location),
        loops=_loops(location),
        direction=_choose(location, "direction", tuple(DIRECTIONS)),
        damaged=_choose(location, "damaged", ("refuse", "replay")) == "replay",
    )
