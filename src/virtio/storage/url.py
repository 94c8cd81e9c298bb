"""Storage by name: ``PATH``, ``file:PATH``, ``mem:SIZE``, ``null:SIZE``, and whatever is registered."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from virtio.errors import StorageUrlError
from virtio.storage.base import Storage

__all__ = ["Location", "open_storage", "parse_size", "register", "schemes"]

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
TRUTH = {"": True, "on": True, "yes": True, "true": True, "1": True}
TRUTH |= {"off": False, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Location:
    """A storage URL taken apart, with the options of the call beside those of its query.

    ``rest`` is what follows the scheme, up to the query; a filter opens it as a URL of its own.
    """

    url: str
    scheme: str
    rest: str
    options: dict[str, str] = field(default_factory=dict)
    read_only: bool = False
    cache: str = "writeback"

    def flag(self, name: str, *, default: bool) -> bool:
        """An option that is on or off; a name alone means on."""
        if name not in self.options:
            return default
        try:
            return TRUTH[self.options[name].lower()]
        except KeyError:
            raise StorageUrlError(f"{self.url}: {name} is on or off, not {self.options[name]!r}") from None

    def only(self, *known: str) -> None:
        """Refuse options other than ``known``."""
        for name in self.options:
            if name not in known:
                allowed = ", ".join(known) or "none"
                raise StorageUrlError(f"{self.url}: unknown option {name!r} (there are: {allowed})")


Opener = Callable[[Location], Storage]
_openers: dict[str, Opener] = {}


def register(scheme: str, opener: Opener) -> None:
    """Make ``scheme:...`` open by ``opener``; a scheme that exists is replaced."""
    if not SCHEME.fullmatch(f"{scheme}:"):
        raise StorageUrlError(f"{scheme!r} is not a URL scheme: lower-case letters, digits, + . -")
    _openers[scheme] = opener


def schemes() -> list[str]:
    """The schemes that `open_storage` knows."""
    return sorted(_openers)


def open_storage(
    url: str | os.PathLike[str], *, read_only: bool = False, cache: str = "writeback"
) -> Storage:
    """Open what ``url`` names: a path, taken as it is, or ``scheme:rest?option=value&...``.

    ``cache="none"`` goes past the host's page cache (O_DIRECT); "writeback" and "writethrough" do not, and
    differ in the device alone. ``read_only`` or the option ``read-only`` open without the right to write.

    Raises StorageUrlError for what makes no sense, else a subclass of StorageError.
    """
    if cache not in ("writeback", "writethrough", "none"):
        raise StorageUrlError(f"cache is writeback, writethrough or none, not {cache!r}")
    location = parse(os.fspath(url), read_only=read_only, cache=cache)
    return _openers[location.scheme](location)


def parse(url: str, *, read_only: bool = False, cache: str = "writeback") -> Location:
    """Take ``url`` apart. What starts with no registered scheme is a path, unless it looks like a URL."""
    found = SCHEME.fullmatch(url)
    if found is None or (found[1] not in _openers and os.path.lexists(url)):
        return Location(url, "file", url, {}, read_only, cache)
    scheme, text = found[1], found[2]
    if scheme not in _openers:
        raise StorageUrlError(f"{url}: unknown scheme {scheme!r} (there are: {', '.join(schemes())})")
    rest, _, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    options = {name.replace("_", "-"): value for name, value in options.items()}
    location = Location(url, scheme, unquote(rest), options, read_only, cache)
    return Location(
        url, scheme, location.rest, options, location.flag("read-only", default=False) or read_only, cache
    )


def parse_size(text: str) -> int:
    """Bytes, from digits and a suffix k, M, G or T (powers of 1024). StorageUrlError."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise StorageUrlError(f"{text!r} is not a size")
    return int(found[1]) * UNITS[found[2].lower()]
