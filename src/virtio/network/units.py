"""Times, rates, sizes and percentages as tc writes them: ``10ms``, ``1mbit``, ``64kb``, ``1.5%``.

>>> parse_time("10ms"), parse_rate("1mbit"), parse_size("64kb"), parse_percent("1.5%")
(10000000, 125000, 65536, 0.015)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["parse_count", "parse_percent", "parse_rate", "parse_size", "parse_time"]

QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-z%]*)")
TIMES = {"s": 10**9, "sec": 10**9, "secs": 10**9}
TIMES |= {"ms": 10**6, "msec": 10**6, "msecs": 10**6, "us": 10**3, "usec": 10**3, "usecs": 10**3}
TIMES |= {"ns": 1, "nsec": 1, "nsecs": 1}
"""Nanoseconds."""

PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
PREFIXES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
RATES: dict[str, float] = {f"{prefix}bit": factor / 8 for prefix, factor in PREFIXES.items()}
RATES |= {f"{prefix}bps": factor for prefix, factor in PREFIXES.items()}
"""Bytes in a second: tc's bps are bytes."""

SIZES: dict[str, float] = {
    "": 1,
    "b": 1,
    "k": 2**10,
    "kb": 2**10,
    "m": 2**20,
    "mb": 2**20,
    "g": 2**30,
    "gb": 2**30,
}
SIZES |= {"kbit": 2**10 / 8, "mbit": 2**20 / 8, "gbit": 2**30 / 8}
"""Bytes: tc counts sizes in powers of 1024."""

LONGEST_TIME = 3600 * 10**9
FASTEST = 10**12
LARGEST = 2**40


def _measure(text: str, units: Mapping[str, float], kind: str) -> float:
    found = QUANTITY.fullmatch(text.strip().lower())
    if found is None or found[2] not in units:
        raise ValueError(kind)
    return float(found[1]) * units[found[2]]


def parse_time(text: str) -> int:
    """Nanoseconds. ValueError says what it may be; so do the others'."""
    kind = "a time of at most an hour, such as 10ms, 250us or 1.5s"
    value = _measure(text, TIMES, kind)
    if value > LONGEST_TIME:
        raise ValueError(kind)
    return round(value)


def parse_rate(text: str) -> int:
    """Bytes in a second, at least 1."""
    kind = "a rate such as 64kbit, 1mbit, 10gbit (bits in a second) or 100kbps (bytes in a second)"
    value = round(_measure(text, RATES, kind))
    if not 0 < value <= FASTEST:
        raise ValueError(kind)
    return value


def parse_size(text: str) -> int:
    """Bytes."""
    kind = "a size in bytes such as 1500, 64kb or 2mb"
    value = round(_measure(text, SIZES, kind))
    if value > LARGEST:
        raise ValueError(kind)
    return value


def parse_percent(text: str) -> float:
    """A probability from 0 to 1."""
    kind = "a percentage from 0% to 100%, such as 1% or 0.05%"
    value = _measure(text, {"%": 1}, kind) / 100
    if value > 1:
        raise ValueError(kind)
    return value


def parse_count(text: str, most: int = 10**9) -> int:
    """A whole number that is not negative."""
    if not re.fullmatch(r"\d{1,20}", text.strip()) or int(text) > most:
        raise ValueError(f"a whole number up to {most}")
    return int(text)
