"""Values of options in a link's URL."""

from __future__ import annotations

import ipaddress

from virtio.errors import NetworkUrlError
from virtio.network.url import Location

__all__ = ["cidr", "flag", "number", "several"]

YES = frozenset({"", "1", "on", "yes", "true"})
NO = frozenset({"0", "off", "no", "false"})


def flag(location: Location, name: str, default: bool = False) -> bool:
    """``name``, ``name=on`` or ``name=off``. Raises NetworkUrlError, as all here."""
    value = location.options.get(name)
    if value is None:
        return default
    if value not in YES | NO:
        raise NetworkUrlError(f"{location.url}: {name}={value} is neither on nor off")
    return value in YES


def number(location: Location, name: str, default: int, least: int, most: int) -> int:
    """A whole number between ``least`` and ``most``."""
    value = location.options.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit()) or not least <= int(value) <= most:
        raise NetworkUrlError(f"{location.url}: {name}={value} is no number from {least} to {most}")
    return int(value)


def several(location: Location, name: str) -> list[str]:
    """Words between commas, or between plus signs, which a URL also turns into spaces."""
    value = location.options.get(name, "")
    return [word for word in value.replace(",", " ").replace("+", " ").split() if word]


def cidr(location: Location, name: str) -> str | None:
    """An address with the length of its network's prefix, such as 192.0.2.1/24."""
    value = location.options.get(name)
    if value is None:
        return None
    try:
        if "/" not in value:
            raise ValueError("no /LENGTH")
        ipaddress.ip_interface(value)
    except ValueError as error:
        raise NetworkUrlError(f"{location.url}: {name}={value} is no ADDRESS/LENGTH: {error}") from error
    return value
