"""What ``virtio spec`` prints, as plain data: the form that ``--json`` shows."""

from __future__ import annotations

from typing import Any

from virtio.errors import FeatureError, UsageError
from virtio.spec import DEVICES, DeviceType, Feature, features, ids, vhost_user
from virtio.spec import status as status_bits
from virtio.spec.layout import Struct

Data = dict[str, Any]


def devices() -> list[Data]:
    """Every device type."""
    return [
        {
            "id": entry.id,
            "name": entry.name,
            "title": entry.title,
            "chapter": entry.chapter,
            "pci": _pci(entry),
        }
        for entry in DEVICES
    ]


def _pci(entry: ids.DeviceId) -> Data:
    return {"modern": entry.modern_pci, "transitional": entry.pci or None}


def device(name: str) -> Data:
    """A device type; those without a chapter have but their identity."""
    entry = ids.find(name)
    data = {"id": entry.id, "name": entry.name, "title": entry.title, "pci": _pci(entry), "chapter": None}
    if entry.chapter:
        data |= _chapter(ids.device(entry.id))
    return data


def _chapter(declared: DeviceType) -> Data:
    return {
        "chapter": declared.section,
        "requires": list(declared.requires),
        "queues": [queue._asdict() for queue in declared.queues],
        "features": [_feature(key, bit) for key, bit in declared.features.items()],
        "config": _structure(declared.config) if declared.config else None,
        "constants": [
            {"prefix": declared.prefix + group, "title": title, "values": declared.constants(group)}
            for group, title in declared.groups.items()
        ],
        "other_constants": declared.other_constants,
        "structures": [_structure(s) for s in declared.structures.values() if s is not declared.config],
    }


def _feature(name: str, bit: Feature) -> Data:
    return {"name": name, "bit": int(bit), "meaning": bit.doc, "needs": list(bit.needs), "legacy": bit.legacy}


def _structure(structure: type[Struct]) -> Data:
    return {
        "name": structure.NAME,
        "size": structure.SIZE,
        "part": structure.PART or None,
        "meaning": (structure.__doc__ or "").strip(),
        "fields": [
            {
                "name": field.name,
                "type": field.type_name,
                "offset": field.offset,
                "size": None if field.variable else field.size,
                "feature": field.feature or None,
                "meaning": field.doc or None,
            }
            for field in structure.FIELDS
        ],
    }


def feature(name: str, device_name: str | None) -> list[Data]:
    """Every feature bit of that name or number; UsageError if there is none."""
    only = ids.find(device_name).name if device_name else None
    found = [entry for entry in _all_features() if _matches(entry, name) and only in (None, entry["device"])]
    if only and not found:
        found = [entry for entry in _all_features() if _matches(entry, name) and entry["device"] is None]
    if not found:
        raise UsageError(f"no feature {name!r} is known", fix="virtio spec device NAME lists a device type's")
    return found


def _all_features() -> list[Data]:
    result = _with_dependents(None, "VIRTIO_", features.RESERVED)
    for entry in DEVICES:
        if entry.chapter:
            declared = ids.device(entry.id)
            result += _with_dependents(entry.name, declared.prefix, declared.features)
    return result


def _with_dependents(device_name: str | None, prefix: str, known: Any) -> list[Data]:
    return [
        {
            "device": device_name,
            "full_name": f"{prefix}F_{key}",
            "mask": f"{1 << bit:#x}",
            **_feature(key, bit),
            "needed_by": [k for k, b in known.items() if any(key in need.split("|") for need in b.needs)],
        }
        for key, bit in known.items()
    ]


def _matches(entry: Data, name: str) -> bool:
    return name.upper() in (entry["name"], entry["full_name"], str(entry["bit"]))


def decode(device_name: str, text: str) -> Data:
    """The bits of a feature set by name, and the first need it does not meet."""
    device_id = ids.find(device_name).id
    mask = _number(text)
    lacks = None
    try:
        features.check(device_id, mask)
    except FeatureError as error:
        lacks = str(error)
    bits = [{"bit": bit, "name": features.name(device_id, bit)} for bit in features.bits(mask)]
    return {"device": ids.name(device_id), "mask": f"{mask:#x}", "bits": bits, "lacks": lacks}


def status(text: str | None) -> Data:
    """The device status bits, all or those of a value."""
    value = None if text is None else _number(text)
    bits = [
        {"bit": bit, "name": name, "meaning": meaning}
        for name, (bit, meaning) in status_bits.BITS.items()
        if value is None or value & bit
    ]
    return {"value": value, "text": None if value is None else status_bits.describe(value), "bits": bits}


def messages() -> Data:
    """The vhost-user messages and protocol features."""
    return {
        "messages": [_message(m) for m in vhost_user.FRONTEND + vhost_user.BACKEND],
        "protocol_features": vhost_user.PROTOCOL_FEATURES,
    }


def message(name: str) -> list[Data]:
    """The vhost-user messages of that name or number."""
    return [_message(m) for m in vhost_user.find(name)]


def _message(entry: vhost_user.Message) -> Data:
    layout = {key: vhost_user.PAYLOADS.get(getattr(entry, key)) for key in ("payload", "reply")}
    return entry._asdict() | {"payload_layout": layout["payload"], "reply_layout": layout["reply"]}


def _number(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is not a number", fix="write 15, 0xf or 0b1111") from None
    if value < 0:
        raise UsageError(f"{text!r} is negative")
    return value
