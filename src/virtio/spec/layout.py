"""Structures of the specification, declared field by field and packed or unpacked from there.

::

    class Geometry(Struct, name="virtio_blk_geometry"):
        cylinders = le16()
        heads = u8()
        sectors = u8()

    Geometry.SIZE                          # 4 bytes
    Geometry.heads.offset                  # 2
    Geometry(cylinders=16).pack()          # bytes; fields not given are zero
    Geometry.unpack(data).cylinders        # int

Structures have no padding: the specification lays every field out by hand. A field may be an array:
``u8(6)`` holds bytes, ``le32(4)`` a tuple of integers, ``array(Geometry, 2)`` a tuple of structures. An
array whose length is written as a string has no fixed length: the string names an earlier field or, failing
that, an argument of ``unpack``; one array may be left to take whatever the rest of the data leaves.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Literal, TypeVar, cast, overload

from virtio.errors import UsageError

__all__ = ["ByteOrder", "Field", "Struct", "array", "be16", "be32", "be64", "le16", "le32", "le64", "u8"]

ByteOrder = Literal["little", "big"]
T = TypeVar("T")
S = TypeVar("S", bound="Struct")
Count = int | str | None


class Scalar:
    """One unsigned integer: its name in the specification, its size in bytes and its byte order."""

    def __init__(self, name: str, size: int, *, big: bool = False) -> None:
        self.name = name
        self.size = size
        self.big = big

    def order(self, legacy: ByteOrder) -> ByteOrder:
        """The order to use: only ``le`` fields follow the guest on the legacy interface."""
        return "big" if self.big else legacy


class Field(Generic[T]):
    """A field of a structure; read from the class it describes itself, read from an instance it is the value.

    ``offset`` is in bytes from the start of the structure, or None behind an array of variable length;
    ``size`` in bytes, a variable array counting nothing; ``feature`` names the feature bit without which the
    field does not exist or means nothing.
    """

    name: str
    offset: int | None

    def __init__(self, element: Scalar | type[Struct], count: Count, feature: str, doc: str) -> None:
        self.element = element
        self.count = count
        self.feature = feature
        self.doc = doc

    @overload
    def __get__(self, instance: None, owner: type) -> Field[T]: ...
    @overload
    def __get__(self, instance: Struct, owner: type) -> T: ...
    def __get__(self, instance: Struct | None, owner: type) -> Field[T] | T:
        return self if instance is None else cast("T", instance.__dict__[self.name])

    def __set__(self, instance: Struct, value: T) -> None:
        instance.__dict__[self.name] = value

    @property
    def element_size(self) -> int:
        """Bytes of one element."""
        return self.element.size if isinstance(self.element, Scalar) else self.element.SIZE

    @property
    def variable(self) -> bool:
        """Whether the length is only known from the data."""
        return isinstance(self.count, str)

    @property
    def size(self) -> int:
        """Bytes of the whole field; 0 for a variable array."""
        if self.count is None:
            return self.element_size
        return 0 if isinstance(self.count, str) else self.element_size * self.count

    @property
    def type_name(self) -> str:
        """The type as the specification writes it: ``le32``, ``u8[6]``, ``struct virtio_blk_geometry``."""
        element = self.element.name if isinstance(self.element, Scalar) else f"struct {self.element.NAME}"
        return element if self.count is None else f"{element}[{self.count}]"

    def default(self) -> Any:
        """The value of a field that is not given: zeros, or an empty array."""
        return self.decode(bytes(self.size), "little")

    def encode(self, value: Any, order: ByteOrder) -> bytes:
        """The bytes of a value; UsageError when it does not fit."""
        try:
            data = self._encode(value, order)
        except (OverflowError, TypeError, AttributeError) as error:
            raise UsageError(f"{self.name} ({self.type_name}) cannot hold {value!r}") from error
        if not self.variable and len(data) != self.size:
            if self.count is None or not isinstance(value, (bytes, bytearray, memoryview)):
                raise UsageError(f"{self.name} ({self.type_name}) cannot hold {len(data)} bytes")
            if len(data) > self.size:
                raise UsageError(f"{self.name} holds {self.size} bytes, not {len(data)}")
            data = data.ljust(self.size, b"\0")
        return data

    def _encode(self, value: Any, order: ByteOrder) -> bytes:
        if self.count is None:
            return self._encode_one(value, order)
        if isinstance(value, (bytes, bytearray, memoryview)) and self.element_size == 1:
            return bytes(value)
        return b"".join(self._encode_one(item, order) for item in value)

    def _encode_one(self, value: Any, order: ByteOrder) -> bytes:
        if isinstance(self.element, Scalar):
            return cast("int", value.__index__()).to_bytes(self.element.size, self.element.order(order))
        return cast("bytes", value.pack(order))

    def decode(self, data: bytes | memoryview, order: ByteOrder) -> Any:
        """The value in exactly the field's own bytes."""
        if self.count is None:
            return self._decode_one(data, order)
        if isinstance(self.element, Scalar) and self.element.size == 1:
            return bytes(data)
        step = self.element_size
        return tuple(self._decode_one(data[at : at + step], order) for at in range(0, len(data), step))

    def _decode_one(self, data: bytes | memoryview, order: ByteOrder) -> Any:
        if isinstance(self.element, Scalar):
            return int.from_bytes(data, self.element.order(order))
        return self.element.unpack(data, order)


class Struct:
    """A structure of the specification. Subclasses declare its fields.

    Class arguments: ``name``, the specification's; ``part``, "readable" or "writable" when the device only
    reads or only writes it.
    """

    NAME: ClassVar[str] = ""
    PART: ClassVar[str] = ""
    FIELDS: ClassVar[tuple[Field[Any], ...]] = ()
    SIZE: ClassVar[int] = 0
    """Bytes, variable arrays counting nothing."""

    def __init_subclass__(cls, *, name: str, part: Literal["", "readable", "writable"] = "") -> None:
        cls.NAME = name
        cls.PART = part
        offset: int | None = 0
        fields = []
        for key, field in vars(cls).items():
            if isinstance(field, Field):
                field.name = key
                field.offset = offset
                offset = None if offset is None or field.variable else offset + field.size
                fields.append(field)
        cls.FIELDS = tuple(fields)
        cls.SIZE = sum(field.size for field in fields)

    def __init__(self, **values: Any) -> None:
        for field in self.FIELDS:
            self.__dict__[field.name] = values.pop(field.name) if field.name in values else field.default()
        if values:
            raise UsageError(f"{self.NAME} has no field {', '.join(values)}")

    def pack(self, order: ByteOrder = "little") -> bytes:
        """The structure's bytes. ``order`` is the guest's, for the legacy interface; fields declared
        big-endian keep theirs. UsageError when a value does not fit its field."""
        return b"".join(field.encode(self.__dict__[field.name], order) for field in self.FIELDS)

    @classmethod
    def unpack(
        cls: type[S], data: bytes | bytearray | memoryview, order: ByteOrder = "little", **counts: int
    ) -> S:
        """The structure at the start of ``data``; what follows is ignored.

        ``counts`` gives lengths (in elements) of variable arrays by the names in their declaration.
        UsageError when the data is too short.
        """
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
        found = cls.__new__(cls)
        at = 0
        for index, field in enumerate(cls.FIELDS):
            size = field.size
            if field.variable:
                size = cls._variable_size(field, index, found, counts, len(view) - at)
            if size < 0 or at + size > len(view):
                raise UsageError(
                    f"{cls.NAME} needs at least {max(cls.SIZE, at + size)} bytes, not {len(view)}"
                )
            found.__dict__[field.name] = field.decode(view[at : at + size], order)
            at += size
        return found

    @classmethod
    def _variable_size(
        cls, field: Field[Any], index: int, found: Struct, counts: dict[str, int], left: int
    ) -> int:
        assert isinstance(field.count, str)
        count = counts.get(field.count, found.__dict__.get(field.count))
        if count is not None:
            return int(count) * field.element_size
        later = cls.FIELDS[index + 1 :]
        rest = left - sum(other.size for other in later)
        rest -= sum(counts.get(str(o.count), 0) * o.element_size for o in later if o.variable)
        return rest - rest % field.element_size

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={self.__dict__[field.name]!r}" for field in self.FIELDS)
        return f"{type(self).__name__}({values})"


_U8 = Scalar("u8", 1)
_LE16, _LE32, _LE64 = Scalar("le16", 2), Scalar("le32", 4), Scalar("le64", 8)
_BE16, _BE32, _BE64 = Scalar("be16", 2, big=True), Scalar("be32", 4, big=True), Scalar("be64", 8, big=True)


@overload
def u8(*, feature: str = "", doc: str = "") -> Field[int]: ...
@overload
def u8(count: int | str, *, feature: str = "", doc: str = "") -> Field[bytes]: ...
def u8(count: Count = None, *, feature: str = "", doc: str = "") -> Field[int] | Field[bytes]:
    """A byte, or with ``count`` an array of bytes."""
    return Field(_U8, count, feature, doc)


class _Integer:
    """Declares integer fields of one kind: ``le32()``, or ``le32(4)`` for an array."""

    def __init__(self, scalar: Scalar) -> None:
        self.scalar = scalar

    @overload
    def __call__(self, *, feature: str = "", doc: str = "") -> Field[int]: ...
    @overload
    def __call__(self, count: int | str, *, feature: str = "", doc: str = "") -> Field[tuple[int, ...]]: ...
    def __call__(self, count: Count = None, *, feature: str = "", doc: str = "") -> Any:
        return Field(self.scalar, count, feature, doc)


le16, le32, le64 = _Integer(_LE16), _Integer(_LE32), _Integer(_LE64)
be16, be32, be64 = _Integer(_BE16), _Integer(_BE32), _Integer(_BE64)


@overload
def array(element: type[S], *, feature: str = "", doc: str = "") -> Field[S]: ...
@overload
def array(
    element: type[S], count: int | str, *, feature: str = "", doc: str = ""
) -> Field[tuple[S, ...]]: ...
def array(element: type[S], count: Count = None, *, feature: str = "", doc: str = "") -> Any:
    """A structure within a structure, or with ``count`` an array of them."""
    return Field(element, count, feature, doc)
