"""Links by name: ``scheme:rest?option=value&...``, whatever is registered, with filters among the options."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from virtio.errors import NetworkUrlError
from virtio.network.link import Link

__all__ = [
    "Form",
    "Location",
    "filter_forms",
    "filters",
    "link_forms",
    "open_link",
    "register",
    "register_filter",
    "schemes",
]

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


class Form(NamedTuple):
    """How a link or filter is written, and what it is, for people."""

    form: str
    about: str


Opener = Callable[[Location], Link]
Wrapper = Callable[[Link, Location], Link]
_openers: dict[str, Opener] = {}
_filters: dict[str, Wrapper] = {}
_link_forms: dict[str, Form] = {}
_filter_forms: dict[Wrapper, Form] = {}


def register(scheme: str, opener: Opener, form: str = "", about: str = "") -> None:
    """Make ``scheme:...`` open by ``opener``; a scheme that exists is replaced.

    ``form`` and ``about`` are for help: how it is written, and what it leads to.
    """
    _openers[scheme] = opener
    _link_forms[scheme] = Form(form or f"{scheme}:", about)


def register_filter(wrapper: Wrapper, *options: str, form: str = "", about: str = "") -> None:
    """Have ``wrapper`` put its filter around a link whose URL has any of ``options``.

    Filters are stacked in the order of their registration, the first one nearest to the world. ``form`` and
    ``about`` are for help.
    """
    for option in options:
        _filters[option] = wrapper
    _filter_forms[wrapper] = Form(form or ", ".join(f"{option}=" for option in options), about)


def schemes() -> list[str]:
    """The schemes that `open_link` knows."""
    return sorted(_openers)


def filters() -> list[str]:
    """The options that put a filter around a link."""
    return sorted(_filters)


def link_forms() -> list[Form]:
    """How links are written, in the order of their registration."""
    return list(_link_forms.values())


def filter_forms() -> list[Form]:
    """How filters are written, the one nearest to the guest first."""
    return list(_filter_forms.values())[::-1]


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
