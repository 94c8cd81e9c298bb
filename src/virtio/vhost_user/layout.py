"""Declared wire structures: a class lists its fields, packing and unpacking follow from that.

All vhost-user numbers are in the machine's own byte order and nothing is aligned; gaps that C's compilers
leave are declared with ``padding``.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, ClassVar, Self, TypeAlias, dataclass_transform

__all__ = ["U8", "U16", "U32", "U64", "Bytes16", "Structure"]

U8: TypeAlias = int
U16: TypeAlias = int
U32: TypeAlias = int
U64: TypeAlias = int
Bytes16: TypeAlias = bytes

_CODES = {"U8": "B", "U16": "H", "U32": "I", "U64": "Q", "Bytes16": "16s"}


@dataclass_transform(frozen_default=True, eq_default=True)
class Structure:
    """A fixed layout: one field per annotation, in wire order.

    ``padding`` maps a field's name to the bytes of padding after it (``""``: before the first). Padding is
    sent as zeros and ignored on receipt. Instances compare by value.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    size: ClassVar[int] = 0
    _wire: ClassVar[Struct] = Struct("=")

    def __init_subclass__(cls, padding: dict[str, int] | None = None) -> None:
        gaps = padding or {}
        declared = {
            name: kind
            for base in reversed(cls.__mro__)
            for name, kind in _annotations(base).items()
            if kind in _CODES
        }
        cls.fields = tuple(declared)
        codes = [_gap(gaps, "")] + [_CODES[kind] + _gap(gaps, name) for name, kind in declared.items()]
        cls._wire = Struct("=" + "".join(codes))
        cls.size = cls._wire.size

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.fields, values, strict=False), **named)
        if len(values) > len(self.fields) or not given.keys() <= set(self.fields):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self.fields)}")
        for name in self.fields:
            if name in given:
                self.__dict__[name] = given[name]
            elif not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} does not change")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.fields)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value:#x}" if isinstance(value, int) else f"{name}={value!r}"
            for name, value in zip(self.fields, self._values(), strict=True)
        )
        return f"{type(self).__name__}({shown})"

    def pack(self) -> bytes:
        """The structure as bytes; `struct.error` if a value does not fit its field."""
        return self._wire.pack(*self._values())

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the structure; ValueError unless ``data`` has exactly its size."""
        if len(data) != cls.size:
            raise ValueError(f"{cls.__name__} takes {cls.size} bytes, not {len(data)}")
        return cls(*cls._wire.unpack(data))


def _annotations(cls: type) -> dict[str, str]:
    """A class's own annotations as written (`inspect` itself is too slow to import)."""
    return dict(vars(cls).get("__annotations__", {}))


def _gap(gaps: dict[str, int], name: str) -> str:
    return f"{gaps[name]}x" if name in gaps else ""
