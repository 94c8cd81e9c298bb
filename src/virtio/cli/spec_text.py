"""What ``virtio spec`` prints, in words: the data of ``spec_data`` as tables."""

from __future__ import annotations

from typing import Any

from virtio.cli.output import table

Data = dict[str, Any]


def devices(data: list[Data]) -> str:
    """The device types."""
    rows = [(d["id"], d["name"], d["title"], "yes" if d["chapter"] else "", _pci(d["pci"])) for d in data]
    return table(rows, headers=("id", "name", "title", "chapter", "pci"))


def _pci(pci: Data) -> str:
    old = f", transitional {pci['transitional']:#06x}" if pci["transitional"] else ""
    return f"{pci['modern']:#06x}{old}"


def device(data: Data) -> str:
    """A device type, head by head."""
    head = f"{data['name']}: {data['title']}, device id {data['id']}, PCI {_pci(data['pci'])}"
    if data["chapter"] is None:
        return f"{head}\nThe specification has no chapter about it."
    parts = [f'{head}\nVirtio 1.4, "{data["chapter"]}"', "Virtqueues\n" + _queues(data["queues"])]
    if data["features"]:
        parts.append("Feature bits\n" + _features(data["features"], data["requires"]))
    if data["config"]:
        parts.append(f"Configuration space, {data['config']['size']} bytes\n" + _fields(data["config"]))
    parts += [_constants(group) for group in data["constants"]]
    if data["other_constants"]:
        parts.append("Other constants\n" + table(data["other_constants"].items(), indent=2))
    parts += [_structure(structure) for structure in data["structures"]]
    return "\n\n".join(parts)


def _queues(queues: list[Data]) -> str:
    rows = [(q["first"], q["name"], _only_with(q["feature"]), q["repeat"]) for q in queues]
    return table(rows, indent=2)


def _only_with(feature: str | None) -> str:
    return f"with {' or '.join(feature.split('|'))}" if feature else ""


def _features(features: list[Data], required: list[str]) -> str:
    lines = table(((f["bit"], f["name"], _feature_text(f)) for f in features), indent=2)
    return f"{lines}\n  Always needed: {_needs(required)}." if required else lines


def _feature_text(feature: Data) -> str:
    legacy = " (legacy)" if feature["legacy"] else ""
    needs = f"; needs {_needs(feature['needs'])}" if feature["needs"] else ""
    return f"{feature['meaning']}{legacy}{needs}"


def _needs(needs: list[str]) -> str:
    return " and ".join(" or ".join(need.split("|")) for need in needs)


def _fields(structure: Data) -> str:
    rows = [(_offset(f), f["type"], f["name"], _notes(f)) for f in structure["fields"]]
    return table(rows, indent=2)


def _offset(field: Data) -> str:
    return "..." if field["offset"] is None else str(field["offset"])


def _notes(field: Data) -> str:
    return "; ".join(note for note in (_only_with(field["feature"]), field["meaning"]) if note)


def _constants(group: Data) -> str:
    values = group["values"].items()
    rows = [(f"{value:#x}" if value > 0xFF else value, group["prefix"] + name) for name, value in values]
    title = group["title"]
    return f"{title[:1].upper()}{title[1:]}\n" + table(rows, indent=2)


def _structure(structure: Data) -> str:
    part = f", device-{structure['part']}" if structure["part"] else ""
    head = f"struct {structure['name']}{part}, {structure['size']} bytes: {structure['meaning']}"
    return f"{head}\n" + _fields(structure)


def feature(data: list[Data]) -> str:
    """Feature bits, a paragraph each."""
    return "\n\n".join(_one_feature(entry) for entry in data)


def _one_feature(entry: Data) -> str:
    kind = f"of the device type {entry['device']}" if entry["device"] else "of every device type"
    if entry["legacy"]:
        kind += ", legacy interface only"
    lines = [f"{entry['full_name']}: bit {entry['bit']} ({entry['mask']}), {kind}", f"  {entry['meaning']}"]
    if entry["needs"]:
        lines.append(f"  needs {_needs(entry['needs'])}")
    if entry["needed_by"]:
        lines.append(f"  needed by {', '.join(entry['needed_by'])}")
    return "\n".join(lines)


def decode(data: Data) -> str:
    """A feature set."""
    head = f"{data['mask']} of {data['device']}"
    bits = (
        table(((bit["bit"], bit["name"]) for bit in data["bits"]), indent=2) if data["bits"] else "  no bit"
    )
    return f"{head}\n{bits}" + (f"\nThis set cannot be: {data['lacks']}." if data["lacks"] else "")


def status(data: Data) -> str:
    """Status bits."""
    head = [] if data["value"] is None else [f"{data['value']:#04x}: {data['text']}"]
    rows = [(f"{bit['bit']:#04x}", bit["name"], bit["meaning"]) for bit in data["bits"]]
    return "\n".join([*head, *([table(rows)] if rows else [])])


def messages(data: Data) -> str:
    """The vhost-user messages of both sides, and the protocol features."""
    rows = [(m["sender"], m["id"], m["name"], m["reply"] or "-", m["needs"]) for m in data["messages"]]
    bits = [(bit, name) for name, bit in data["protocol_features"].items()]
    return (
        table(rows, headers=("sender", "id", "message", "reply", "needs"))
        + "\n\nProtocol features\n"
        + table(bits, indent=2)
    )


def message(data: list[Data]) -> str:
    """vhost-user messages, a paragraph each."""
    return "\n\n".join(_one_message(entry) for entry in data)


def _one_message(entry: Data) -> str:
    rows = [
        ("payload", entry["payload_layout"] or "none"),
        ("reply", entry["reply_layout"] or entry["reply"] or "see the note"),
        ("descriptors", entry["fds"]),
        ("needs", entry["needs"]),
        ("note", entry["note"]),
    ]
    head = f"VHOST_USER_{entry['name']}: request {entry['id']} of the {entry['sender']}"
    return f"{head}\n" + table([row for row in rows if row[1]], indent=2)
