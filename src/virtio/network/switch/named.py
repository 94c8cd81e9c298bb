"""``switch:NAME`` and ``switch:PATH``: switches by URL.

``switch:lan`` is a switch of this process, made when the first link names it and gone with the last one.
A name with a slash in it is the socket of a switch that another program serves.
"""

from __future__ import annotations

import threading

from virtio.errors import NetworkUrlError
from virtio.network.link import Link
from virtio.network.switch.fabric import Port, Switch
from virtio.network.switch.settings import OPTIONS, PortSettings, number
from virtio.network.switch.shared import SharedPort
from virtio.network.switch.uplink import Uplink
from virtio.network.url import Location, open_link

__all__ = ["NamedPort", "NamedSwitch", "named_switches", "open_switch"]

SWITCH_OPTIONS = ("ageing", "size", "uplink")

_lock = threading.RLock()
_switches: dict[str, NamedSwitch] = {}


class NamedSwitch(Switch):
    """A switch that is there as long as ports other than its uplinks are."""

    def __init__(self, name: str, *, size: int = 8192, ageing: int = 300) -> None:
        super().__init__(name, size=size, ageing=ageing)
        self.made_with = {"size": size, "ageing": ageing}
        self.uplinks: dict[str, Uplink] = {}
        self.users = 0

    def add_uplink(self, url: str) -> Uplink:
        """Have the link of this URL as a port, named ``uplink`` and a number; once, however often asked."""
        if url not in self.uplinks:
            names = {port.port_name for port in self.ports}
            name = next(n for n in map("uplink{}".format, range(len(names) + 1)) if n not in names)
            self.uplinks[url] = add_uplink(self, url, PortSettings(port=name))
        return self.uplinks[url]

    def leave(self) -> None:
        """One port fewer; the last one takes the switch along."""
        with _lock:
            self.users -= 1
            if self.users == 0:
                _switches.pop(self.name, None)
                for uplink in self.uplinks.values():
                    uplink.close()
                self.uplinks.clear()


class NamedPort(Port):
    """A port of a `NamedSwitch`."""

    switch: NamedSwitch

    def close(self) -> None:
        """Leave the switch; the last port closes it."""
        was_open = self.number >= 0
        super().close()
        if was_open:
            self.switch.leave()


def add_uplink(switch: Switch, url: str, settings: PortSettings) -> Uplink:
    """Connect the link of this URL to a new port of ``switch``. Raises NetworkError or NetworkUrlError."""
    link = open_link(url)
    try:
        port = switch.add(settings)
        try:
            return Uplink(link, port, url)
        except BaseException:
            port.close()
            raise
    except BaseException:
        link.close()
        raise


def named_switches() -> list[NamedSwitch]:
    """The switches of this process that URLs have named."""
    with _lock:
        return list(_switches.values())


def open_switch(location: Location) -> Link:
    """A port of the switch that a URL names. Raises NetworkUrlError or NetworkError."""
    location.only(*OPTIONS, *SWITCH_OPTIONS)
    if not location.rest:
        raise NetworkUrlError(f"{location.url}: a switch has a name, or the path of its socket")
    settings = PortSettings.parse(location.options)
    if "/" in location.rest:
        return _join(location, settings)
    with _lock:
        switch = _switches.get(location.rest)
        if switch is None:
            switch = NamedSwitch(location.rest, **_sizes(location))
        elif any(switch.made_with[name] != value for name, value in _sizes(location).items()):
            raise NetworkUrlError(f"{location.url}: the switch is there already, with another ageing or size")
        return _plug_in(switch, location, settings)


def _sizes(location: Location) -> dict[str, int]:
    options = location.options
    sizes: dict[str, int] = {
        name: number(name, options[name]) for name in ("ageing", "size") if name in options
    }
    if not 1 <= sizes.get("size", 1) <= 1 << 24 or sizes.get("ageing", 0) > 1 << 20:
        raise NetworkUrlError(
            f"{location.url}: size is up to 16777216 stations, ageing up to 1048576 seconds"
        )
    return sizes


def _plug_in(switch: NamedSwitch, location: Location, settings: PortSettings) -> Port:
    port = switch.add(settings, NamedPort)
    switch.users += 1
    _switches[switch.name] = switch
    try:
        if "uplink" in location.options:
            switch.add_uplink(location.options["uplink"])
    except BaseException:
        port.close()
        raise
    return port


def _join(location: Location, settings: PortSettings) -> Link:
    for name in SWITCH_OPTIONS:
        if name in location.options:
            raise NetworkUrlError(f"{location.url}: {name} is for the program that serves the switch")
    return SharedPort(location.rest, settings)
