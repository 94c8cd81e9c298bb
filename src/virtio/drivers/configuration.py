"""Configuration spaces read by their declaration in `virtio.spec`: only the fields that exist."""

from __future__ import annotations

from typing import Any

from virtio.spec.declare import DeviceType
from virtio.spec.layout import Field, Struct

__all__ = ["config_size", "decode_config", "visible_fields"]


def visible_fields(device: DeviceType, features: int) -> list[Field[Any]]:
    """The fields of a device type's configuration space that exist with these features."""
    if device.config is None:
        return []
    return [field for field in device.config.FIELDS if _exists(device, field, features)]


def _exists(device: DeviceType, field: Field[Any], features: int) -> bool:
    if not field.feature:
        return True
    known = device.features
    return any(features >> known[name] & 1 for name in field.feature.split("|") if name in known)


def config_size(device: DeviceType, features: int) -> int:
    """How many bytes from the start hold all of them: a back-end may have no more than these."""
    fields = visible_fields(device, features)
    return max((field.offset + field.size for field in fields if field.offset is not None), default=0)


def decode_config(device: DeviceType, features: int, data: bytes) -> dict[str, Any]:
    """Values by name; padding is left out, a structure is a dict, bytes are text or hexadecimal."""
    if device.config is None:
        return {}
    raw = device.config.unpack(data.ljust(device.config.SIZE, b"\0"))
    return {
        field.name: plain(getattr(raw, field.name))
        for field in visible_fields(device, features)
        if not _is_padding(field.name)
    }


def _is_padding(name: str) -> bool:
    return name.startswith(("unused", "reserved", "padding"))


def plain(value: Any) -> Any:
    """A field's value as JSON can say it."""
    if isinstance(value, Struct):
        return {f.name: plain(getattr(value, f.name)) for f in value.FIELDS if not _is_padding(f.name)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        text = value.rstrip(b"\0")
        return text.decode() if text.isascii() and text.decode().isprintable() else value.hex(":")
    return value
