"""Links by name: ``scheme:rest?option=value&...``, whatever is registered, with filters among the options."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from virtio.errors import NetworkUrlError
from virtio.network.link import Link

__all__ = ["Location", "filters", "open_link", "register", "register_filter", "schemes"]

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(.*)", re.DOTALL)


@dataclass(frozen=True)
class Location:
    """A link's URL taken apart: ``rest`` is between the scheme and the query."""

    url: str
    scheme: str
    rest: str
    options: dict[str, str] = field(default_factory=dict)

    def only(self, *known: str) -> None:
        """Refuse options other than ``known`` and those of the filters. Raises NetworkUrlError."""
        for name in self.options:
            if name not in known and name not in _filters:
                allowed = ", ".join([*known, *sorted(_filters)]) or "none"
                raise NetworkUrlError(f"{self.url}: unknown option {name!r} (there are: {allowed})")


Opener = Callable[[Location], Link]
Wrapper = Callable[[Link, Location], Link]
_openers: dict[str, Opener] = {}
_filters: dict[str, Wrapper] = {}


def register(scheme: str, opener: Opener) -> None:
    """Make ``scheme:...`` open by ``opener``; a scheme that exists is replaced."""
    _openers[scheme] = opener


def register_filter(wrapper: Wrapper, *options: str) -> None:
    """Have ``wrapper`` put its filter around a link whose URL has any of ``options``.

    Filters are stacked in the order of their registration, the first one nearest to the world.
    """
    for option in options:
        _filters[option] = wrapper


def schemes() -> list[str]:
    """The schemes that `open_link` knows."""
    return sorted(_openers)


def filters() -> list[str]:
    """The options that put a filter around a link."""
    return sorted(_filters)


def parse(url: str) -> Location:
    """Take ``url`` apart. Raises NetworkUrlError."""
    found = SCHEME.fullmatch(url)
    if found is None or found[1] not in _openers:
        raise NetworkUrlError(f"{url!r} is no link: there are {', '.join(f'{name}:' for name in schemes())}")
    rest, _, query = found[2].partition("?")
    options = {name.replace("_", "-"): value for name, value in parse_qsl(query, keep_blank_values=True)}
    return Location(url, found[1], unquote(rest), options)


def open_link(url: str) -> Link:
    """Open what ``url`` names, with its filters around it.

    Raises NetworkUrlError for what makes no sense, else a subclass of NetworkError.
    """
    location = parse(url)
    link = _openers[location.scheme](location)
    try:
        for wrapper in dict.fromkeys(_filters.values()):
            if any(_filters[name] is wrapper for name in location.options if name in _filters):
                link = wrapper(link, location)
    except BaseException:
        link.close()
        raise
    return link
