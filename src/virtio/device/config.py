"""A device's configuration space: a declared structure that drivers read and write as bytes.

::

    config = ConfigSpace(spec.blk.Config, writable=("writeback",), cut_off="zoned", capacity=2048)
    config.capacity                             # 2048
    config.capacity = 4096                      # raises the generation and notifies every driver
    config.update(capacity=8192, blk_size=512)  # both at once

The structure is the specification's, or a ``virtio.spec.Struct`` of the device's own; it is little-endian
(virtio 1.4, 2.5). Drivers read any range of bytes: what lies past the end reads as zero, as it does over
PCI. They may write only inside fields named writable.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection
from typing import Any, Self

from virtio.errors import ConfigError, UsageError
from virtio.spec.layout import Field, Struct

__all__ = ["ConfigSpace"]

LARGEST = 1 << 16  # bytes a driver may read at once; no device's configuration comes near it


class NoFields(Struct, name="no configuration"):
    """The configuration of a device that has none."""


class ConfigSpace:
    """The values of one device's configuration; the fields of ``layout`` are its attributes.

    ``writable`` names the fields that drivers may write. ``cut_off``, a number of bytes or the name of the
    first field left out, hides the rest from drivers: it belongs to features that are not offered.
    ``values`` are the fields' first values, zero for the others. ``len(config)`` is the number of bytes
    that drivers see. Any thread may read and write. Raises UsageError for what does not fit the layout.
    """

    generation: int
    """Grows with each change that drivers are told of; a transport shows as many low bits as it has."""

    def __init__(
        self,
        layout: type[Struct] = NoFields,
        *,
        writable: Collection[str] = (),
        cut_off: int | str | None = None,
        **values: Any,
    ) -> None:
        fields = {field.name: field for field in layout.FIELDS}
        unknown = set(writable) - set(fields)
        if unknown or any(field.variable for field in layout.FIELDS):
            what = f"has no field {min(unknown)!r}" if unknown else "has no fixed size"
            raise UsageError(f"{layout.__name__} {what}: not a configuration like that")
        private = self.__dict__
        private["_fields"] = fields
        private["_writable"] = frozenset(writable)
        private["_data"] = bytearray(layout.SIZE)
        private["_visible"] = layout.SIZE if cut_off is None else min(self._offset(cut_off), layout.SIZE)
        private["_lock"] = threading.Lock()
        private["_listener"] = None
        private["generation"] = 0
        self.assign(**values)

    def __len__(self) -> int:
        return int(self._visible)

    def __getattr__(self, name: str) -> Any:
        field = self.__dict__.get("_fields", {}).get(name)
        if field is None:
            raise AttributeError(f"the configuration has no field {name!r}")
        start, end = _range(field)
        with self._lock:
            return field.decode(bytes(self._data[start:end]), "little")

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(**{name: value})

    def __repr__(self) -> str:
        return f"ConfigSpace({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"

    def copy(self) -> Self:
        """Another configuration with the same values, that nobody listens to."""
        other = copy.copy(self)
        other.__dict__.update(_data=bytearray(self._data), _lock=threading.Lock(), _listener=None)
        return other

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have ``listener`` called after each change, on the thread that made it, with no lock held."""
        self.__dict__["_listener"] = listener

    def assign(self, **values: Any) -> bool:
        """Set fields without telling drivers, as set-up and answers to a driver's own write do.

        True if anything changed. Raises UsageError for an unknown field or a value that does not fit; then
        nothing is set.
        """
        encoded = [self._encode(name, value) for name, value in values.items()]
        with self._lock:
            return self._store(encoded)

    def update(self, **values: Any) -> None:
        """Set fields all at once: one generation, one notification, and none if nothing changes.

        Raises UsageError for an unknown field or a value that does not fit; then nothing is set.
        """
        encoded = [self._encode(name, value) for name, value in values.items()]
        with self._lock:
            changed = self._store(encoded)
            if changed:
                self.__dict__["generation"] += 1
        if changed and self._listener is not None:
            self._listener()

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` as a driver sees them; past the end they are zero.

        Raises ConfigError for a range that no transport can mean.
        """
        if offset < 0 or not 0 <= size <= LARGEST:
            raise ConfigError(f"configuration read of {size} bytes at byte {offset}")
        with self._lock:
            return bytes(self._data[offset : min(offset + size, self._visible)]).ljust(size, b"\0")

    def write(self, offset: int, data: bytes, *, migration: bool = False) -> tuple[str, ...]:
        """Write bytes as a driver does; with ``migration``, as a hypervisor restoring a device does.

        Returns the names of the fields that changed. A driver's write outside writable fields raises
        ConfigError and changes nothing; a restoring one may set any field that drivers see.
        """
        end = offset + len(data)
        if offset < 0 or end > self._visible:
            raise ConfigError(f"configuration write to bytes {offset} to {end} of {self._visible}")
        touched = {name: _range(field) for name, field in self._fields.items()}
        touched = {name: (a, b) for name, (a, b) in touched.items() if a < end and offset < b}
        refused = [] if migration else [name for name in touched if name not in self._writable]
        if refused:
            raise ConfigError(f"configuration field {refused[0]} is not for the driver to write")
        with self._lock:
            before = bytes(self._data)
            self._data[offset:end] = data
            return tuple(name for name, (a, b) in touched.items() if before[a:b] != self._data[a:b])

    def _offset(self, cut_off: int | str) -> int:
        if isinstance(cut_off, int):
            return max(cut_off, 0)
        return _range(self._field(cut_off))[0]

    def _field(self, name: str) -> Field[Any]:
        field: Field[Any] | None = self._fields.get(name)
        if field is None:
            raise UsageError(f"the configuration has no field {name!r}")
        return field

    def _encode(self, name: str, value: Any) -> tuple[int, bytes]:
        field = self._field(name)
        try:
            return _range(field)[0], field.encode(value, "little")
        except ValueError as error:
            raise UsageError(f"configuration field {name} cannot hold {value!r}") from error

    def _store(self, encoded: list[tuple[int, bytes]]) -> bool:
        before = bytes(self._data)
        for offset, data in encoded:
            self._data[offset : offset + len(data)] = data
        return bool(before != self._data)


def _range(field: Field[Any]) -> tuple[int, int]:
    """A field's first byte, and the byte after its last."""
    assert field.offset is not None  # no variable arrays here
    return field.offset, field.offset + field.size
