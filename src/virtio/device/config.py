"""A device's configuration space: declared fields, read and written as bytes by drivers.

::

    class DiskConfig(ConfigSpace):
        capacity = u64()
        size_max = u32()
        seg_max = u32()
        cylinders = u16()
        heads = u8()
        sectors = u8()
        writeback = u8(writable=True)
        mac = octets(6)
        table = u16_array(128)

    config = DiskConfig(capacity=2048)
    config.capacity = 4096          # raises the generation and notifies every driver

Fields are little-endian and packed in the order of declaration (virtio 1.4, 2.5): padding is declared as
the specification declares it. Drivers read any range of bytes: what lies past the end reads as zero, as on
every transport of virtio over PCI. They may write only inside fields declared writable.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, overload

from virtio.errors import ConfigError, UsageError

__all__ = [
    "ConfigSpace",
    "Field",
    "octets",
    "u8",
    "u8_array",
    "u16",
    "u16_array",
    "u32",
    "u32_array",
    "u64",
    "u64_array",
]

T = TypeVar("T")

LARGEST = 1 << 16       # bytes a driver may read at once; no device's configuration comes near it


class Field(Generic[T]):
    """One field. As an attribute of a configuration it is the field's value."""

    __slots__ = ("decode", "encode", "name", "offset", "size", "writable")

    def __init__(
        self, size: int, encode: Callable[[T], bytes], decode: Callable[[bytes], T], writable: bool
    ) -> None:
        self.name = ""
        self.offset = 0         # bytes from the start of the configuration
        self.size = size        # bytes
        self.encode = encode
        self.decode = decode
        self.writable = writable        # by the driver; the device may always

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def end(self) -> int:
        """Offset of the first byte after the field."""
        return self.offset + self.size

    @overload
    def __get__(self, config: None, owner: type) -> Field[T]: ...
    @overload
    def __get__(self, config: ConfigSpace, owner: type) -> T: ...
    def __get__(self, config: ConfigSpace | None, owner: type) -> Field[T] | T:
        return self if config is None else cast("T", config._get(self))

    def __set__(self, config: ConfigSpace, value: T) -> None:
        config.update(**{self.name: value})


def _number(width: int, writable: bool) -> Field[int]:
    def encode(value: int) -> bytes:
        return int(value).to_bytes(width, "little")

    def decode(data: bytes) -> int:
        return int.from_bytes(data, "little")

    return Field(width, encode, decode, writable)


def _array(width: int, count: int, writable: bool) -> Field[Sequence[int]]:
    def encode(values: Sequence[int]) -> bytes:
        return b"".join(value.to_bytes(width, "little") for value in values)

    def decode(data: bytes) -> Sequence[int]:
        return tuple(int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width))

    return Field(width * count, encode, decode, writable)


def u8(*, writable: bool = False) -> Field[int]:
    """An unsigned 8-bit field."""
    return _number(1, writable)


def u16(*, writable: bool = False) -> Field[int]:
    """An unsigned little-endian 16-bit field (the specification's le16)."""
    return _number(2, writable)


def u32(*, writable: bool = False) -> Field[int]:
    """An unsigned little-endian 32-bit field (the specification's le32)."""
    return _number(4, writable)


def u64(*, writable: bool = False) -> Field[int]:
    """An unsigned little-endian 64-bit field (the specification's le64)."""
    return _number(8, writable)


def u8_array(count: int, *, writable: bool = False) -> Field[Sequence[int]]:
    """``count`` unsigned 8-bit numbers."""
    return _array(1, count, writable)


def u16_array(count: int, *, writable: bool = False) -> Field[Sequence[int]]:
    """``count`` unsigned 16-bit numbers."""
    return _array(2, count, writable)


def u32_array(count: int, *, writable: bool = False) -> Field[Sequence[int]]:
    """``count`` unsigned 32-bit numbers."""
    return _array(4, count, writable)


def u64_array(count: int, *, writable: bool = False) -> Field[Sequence[int]]:
    """``count`` unsigned 64-bit numbers."""
    return _array(8, count, writable)


def octets(count: int, *, writable: bool = False) -> Field[bytes]:
    """``count`` bytes; a shorter value is filled up with zeros."""
    return Field(count, lambda value: bytes(value).ljust(count, b"\0"), bytes, writable)


class ConfigSpace:
    """The values of one device's configuration. Subclasses declare the fields.

    ``cut_off`` hides what lies at or past that many bytes from drivers: a device that speaks an older
    layout, or that does not offer the feature the later fields belong to. ``len(config)`` is what drivers
    see. Any thread may read and write.
    """

    fields: ClassVar[tuple[Field[Any], ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = [field for field in vars(cls).values() if isinstance(field, Field)]
        offset = cls.fields[-1].end if cls.fields else 0
        for field in own:
            if hasattr(ConfigSpace, field.name):
                raise TypeError(f"a configuration field cannot be named {field.name!r}")
            field.offset = offset
            offset = field.end
        cls.fields = (*cls.fields, *own)

    def __init__(self, *, cut_off: int | None = None, **values: Any) -> None:
        whole = self.fields[-1].end if self.fields else 0
        self._data = bytearray(whole)
        self._visible = whole if cut_off is None else min(cut_off, whole)
        self._lock = threading.Lock()
        self._listener: Callable[[], None] | None = None
        self.generation = 0     # grows with each change that drivers are told of; transports show low bits
        self.assign(**values)

    def __len__(self) -> int:
        return self._visible

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={self._get(field)!r}" for field in self.fields)
        return f"{type(self).__name__}({values})"

    def copy(self) -> Self:
        """Another configuration with the same values, that nobody listens to."""
        other = copy.copy(self)
        other._data = bytearray(self._data)
        other._lock = threading.Lock()
        other._listener = None
        return other

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have ``listener`` called after each change, on the thread that made it, with no lock held."""
        self._listener = listener

    def assign(self, **values: Any) -> bool:
        """Set fields without telling drivers, as set-up and answers to a driver's own write do.

        True if anything changed. Raises UsageError for an unknown field or a value that does not fit.
        """
        encoded = [(field.offset, data) for field, data in map(self._encode, values.items())]
        with self._lock:
            return self._store(encoded)

    def update(self, **values: Any) -> None:
        """Set fields all at once: one generation, one notification, and none if nothing changes.

        Raises UsageError for an unknown field or a value that does not fit; then nothing is set.
        """
        encoded = [(field.offset, data) for field, data in map(self._encode, values.items())]
        with self._lock:
            changed = self._store(encoded)
            if changed:
                self.generation += 1
        if changed and self._listener is not None:
            self._listener()

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` as a driver sees them; past the end they are zero.

        Raises ConfigError for a range that no transport can ask for.
        """
        if offset < 0 or not 0 <= size <= LARGEST:
            raise ConfigError(f"configuration read of {size} bytes at {offset}")
        with self._lock:
            return bytes(self._data[offset : min(offset + size, self._visible)]).ljust(size, b"\0")

    def write(self, offset: int, data: bytes, *, migration: bool = False) -> tuple[str, ...]:
        """Write bytes as a driver does; with ``migration``, as a hypervisor restoring a device does.

        Returns the names of the fields that changed. A driver's write outside writable fields raises
        ConfigError and changes nothing; a restoring one may set any visible field.
        """
        end = offset + len(data)
        if offset < 0 or end > self._visible:
            raise ConfigError(f"configuration write to bytes {offset} to {end} of {self._visible}")
        touched = [field for field in self.fields if field.offset < end and offset < field.end]
        for field in touched:
            if not (field.writable or migration):
                raise ConfigError(f"configuration field {field.name} at byte {field.offset} is read-only")
        with self._lock:
            before = bytes(self._data)
            self._data[offset:end] = data
            after = bytes(self._data)
        return tuple(f.name for f in touched if before[f.offset : f.end] != after[f.offset : f.end])

    def _get(self, field: Field[Any]) -> Any:
        with self._lock:
            return field.decode(bytes(self._data[field.offset : field.end]))

    def _encode(self, item: tuple[str, Any]) -> tuple[Field[Any], bytes]:
        name, value = item
        field = vars_of(type(self)).get(name)
        if field is None:
            raise UsageError(f"{type(self).__name__} has no configuration field {name!r}")
        try:
            data = field.encode(value)
        except (OverflowError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(f"{value!r} is no value for configuration field {name}: {error}") from error
        if len(data) != field.size:
            raise UsageError(f"configuration field {name} holds {field.size} bytes, not {len(data)}")
        return field, data

    def _store(self, encoded: list[tuple[int, bytes]]) -> bool:
        changed = False
        for offset, data in encoded:
            changed = changed or self._data[offset : offset + len(data)] != data
            self._data[offset : offset + len(data)] = data
        return changed


def vars_of(cls: type[ConfigSpace]) -> dict[str, Field[Any]]:
    """The fields of a configuration by name."""
    return {field.name: field for field in cls.fields}
