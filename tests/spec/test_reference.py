"""The declarations against reference.json: numbers taken from the specification's text by other means.

Constants and the offsets and sizes of fields come from its C listings by way of a C compiler, feature bits
and device ids from its prose.
"""

import json
from importlib import import_module
from pathlib import Path

import pytest

from virtio.spec import features, ids, status, vhost_user
from virtio.spec.layout import Struct

REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text())
CHAPTERS = sorted(REFERENCE["features"])
MODULES = sorted(REFERENCE["constants"])
PARTS = {
    "net": ["net", "net_control", "net_stats", "net_flow"],
    "crypto": ["crypto", "crypto_data", "crypto_stateless", "crypto_ipsec"],
    "sound": ["sound", "sound_ctl"],
    "admin": ["admin", "admin_parts"],
}


def declared(module: str) -> dict[str, object]:
    names: dict[str, object] = {}
    for part in PARTS.get(module, [module]):
        names.update(vars(import_module(f"virtio.spec.{part}")))
    return names


def test_device_ids_and_which_have_a_chapter():
    assert {str(entry.id): entry.chapter for entry in ids.DEVICES} == REFERENCE["device_ids"]


def test_transitional_pci_ids():
    assert {e.name: e.pci for e in ids.DEVICES if e.pci} == REFERENCE["transitional_pci_ids"]


def test_status_bits():
    assert {name: bit for name, (bit, _) in status.BITS.items()} == REFERENCE["status"]


def test_reserved_features():
    assert {name: int(bit) for name, bit in features.RESERVED.items()} == REFERENCE["reserved_features"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_features(name):
    assert {key: int(bit) for key, bit in ids.device(name).features.items()} == REFERENCE["features"][name]


@pytest.mark.parametrize("name", CHAPTERS)
def test_dependencies_name_the_same_bits(name):
    own = ids.device(name).features
    found = {
        key: [choice for need in feature.needs for choice in need.split("|")]
        for key, feature in own.items()
        if feature.needs and feature.needs != ("VERSION_1",)
    }
    assert found == REFERENCE["needs"].get(name, {})


@pytest.mark.parametrize("module", MODULES)
def test_constants(module):
    names = declared(module)
    expected = REFERENCE["constants"][module]
    assert {key: names.get(key) for key in expected} == expected


@pytest.mark.parametrize("module", MODULES)
def test_structures(module):
    names = declared(module)
    for key, (size, fields) in REFERENCE["structures"][module].items():
        structure = names[key]
        assert isinstance(structure, type)
        assert issubclass(structure, Struct)
        assert size == structure.SIZE, key
        offsets = {
            field.name: [field.offset, field.size] for field in structure.FIELDS if field.name in fields
        }
        assert offsets == fields, key


def test_vhost_user():
    assert REFERENCE["protocol_features"] == vhost_user.PROTOCOL_FEATURES
    assert {m.name: m.id for m in vhost_user.FRONTEND} == REFERENCE["frontend_messages"]
    assert {m.name: m.id for m in vhost_user.BACKEND} == REFERENCE["backend_messages"]
