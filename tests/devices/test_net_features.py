"""Every feature of the network chapter is offered where the reference says, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from virtio.devices.net import Net
from virtio.spec import net as spec
from virtio.spec.declare import Feature
from virtio.spec.features import mask

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "network-features.md"
FEATURES = {name[2:]: bit for name, bit in vars(spec).items() if isinstance(bit, Feature)}
# What the table's words mean: options of a NIC that has the feature.
OPTIONS: dict[str, dict[str, Any]] = {
    "always": {"offloads": False},
    "offloads": {},
    "`mtu=`, or a link that has one": {"mtu": 1500},
    "several pairs": {"num_queues": 2, "rss": False},
    "`rss=` or `hash_report=`": {"rss": True},
    "`hash_report=True`": {"hash_report": True},
    "`rss=`, by default with several pairs": {"num_queues": 2},
    "`standby=True`": {"standby": True},
    "`speed=`, `duplex=`": {"speed": 10000},
}


def table() -> dict[str, tuple[int, str]]:
    """Name: the bit, and where it is offered, as documented."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    return {name: (int(bit), offered) for bit, name, offered in rows}


def test_every_feature_is_in_the_table() -> None:
    assert {name: bit for name, (bit, _) in table().items()} == {
        name: int(bit) for name, bit in FEATURES.items()
    }


@pytest.mark.parametrize("name", FEATURES)
def test_where_it_is_offered(name: str) -> None:
    bit, offered = table()[name]
    where = [words for words, options in OPTIONS.items() if has(options, bit)]
    if offered == "never":
        assert not where
    else:
        assert offered in where
        plain = offered in ("always", "offloads")
        assert has({}, bit) == plain
        assert has({"offloads": False}, bit) == (offered == "always")


def has(options: dict[str, Any], bit: int) -> bool:
    with Net("null:", **options) as nic:
        return bool(nic.offered_features & mask(bit))


def test_all_that_is_offered_fits_vhost_user() -> None:
    with Net("null:", num_queues=2, hash_report=True, mtu=1500, speed=1, standby=True) as nic:
        assert nic.offered_features < 1 << 64
