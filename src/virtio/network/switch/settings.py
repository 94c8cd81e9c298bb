"""What a port is set to, as options of its URL, of the shared switch's hello, or as arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from virtio.errors import NetworkUrlError

__all__ = ["ALL_VLANS", "OPTIONS", "PortSettings"]

ALL_VLANS = frozenset(range(1, 4095))
LONGEST_NAME = 64


@dataclass(frozen=True)
class PortSettings:
    """How the switch treats a port.

    Without ``vlan`` and ``trunk`` a port is plain: it belongs to VLAN 1 untagged, tags of its guest's own are
    payload, and only other plain ports get such frames. Raises NetworkUrlError for what does not go together.
    """

    port: str = ""
    """Its name; empty: the switch makes one."""
    vlan: int | None = None
    """An access port of this VLAN: frames come and go without a tag."""
    trunk: frozenset[int] | None = None
    """A trunk port of these VLANs: frames come and go with a tag."""
    native: int | None = None
    """The trunk's VLAN of frames without a tag, both ways; None: those are dropped."""
    isolated: bool = False
    """Reaches only ports that are not isolated."""
    mirror: tuple[str, ...] = ()
    """A monitor: it gets a copy of all frames of the ports of these names (``all``: of every one), and
    nothing else; what it sends is dropped."""
    storm: int = 0
    """Frames to be flooded that it may send in a second; 0: any number."""

    def __post_init__(self) -> None:
        if self.vlan is not None and (self.trunk is not None or self.native is not None):
            raise NetworkUrlError("vlan= makes an access port, trunk= and native= a trunk port: choose one")
        if self.native is not None and self.trunk is None:
            raise NetworkUrlError("native= needs trunk=")
        if len(self.port) > LONGEST_NAME or not self.port.isprintable():
            raise NetworkUrlError(f"a port's name has up to {LONGEST_NAME} printable characters")
        for vlan in {self.vlan, self.native} - {None} | set(self.trunk or ()):
            if vlan not in ALL_VLANS:
                raise NetworkUrlError(f"there is no VLAN {vlan}: they go from 1 to 4094")

    @property
    def members(self) -> frozenset[int]:
        """The VLANs that it belongs to."""
        if self.trunk is not None:
            return self.trunk | ({self.native} if self.native else frozenset())
        return frozenset({self.vlan or 1})

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> PortSettings:
        """Read them from options in words; others than `OPTIONS` are ignored."""
        known = {name: _READERS[name](name, options[name]) for name in OPTIONS if name in options}
        return cls(**known)

    def options(self) -> dict[str, str]:
        """The opposite of `parse`."""
        words: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words[field.name] = _in_words(value)
        return words


def _in_words(value: object) -> str:
    if isinstance(value, frozenset):
        return "all" if value == ALL_VLANS else ",".join(str(vlan) for vlan in sorted(value))
    if isinstance(value, tuple):
        return ",".join(value)
    return "yes" if value is True else str(value)


def number(name: str, text: str) -> int:
    """A count in decimal digits. Raises NetworkUrlError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise NetworkUrlError(f"{name}={text!r} is no number")
    return int(text)


def _yes_or_no(name: str, text: str) -> bool:
    if text.lower() not in ("", "yes", "no", "on", "off", "1", "0", "true", "false"):
        raise NetworkUrlError(f"{name}={text!r}: say yes or no")
    return text.lower() in ("", "yes", "on", "1", "true")


def _vlans(name: str, text: str) -> frozenset[int]:
    if text == "all":
        return ALL_VLANS
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = number(name, first)
        end = number(name, last) if dash else begin
        if not 1 <= begin <= end <= 4094:
            raise NetworkUrlError(f"{name}={part!r}: VLANs go from 1 to 4094, such as 10,20-29 or all")
        found.update(range(begin, end + 1))
    return frozenset(found)


_READERS = {
    "port": lambda _, text: text,
    "vlan": number,
    "trunk": _vlans,
    "native": number,
    "isolated": _yes_or_no,
    "mirror": lambda _, text: tuple(text.split(",")),
    "storm": number,
}

OPTIONS = tuple(_READERS)
"""The options that `PortSettings.parse` reads."""
