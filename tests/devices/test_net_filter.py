"""The receive filter against a plain model of the specification's rules."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio.devices.net.filter import ReceiveFilter
from virtio.errors import UsageError

BROADCAST = b"\xff" * 6
OWN = bytes.fromhex("52540000beef")
OTHER = bytes.fromhex("525400001234")
GROUP = bytes.fromhex("01005e000001")


def frame(to: bytes, *, vlan: int | None = None, ethertype: int = 0x0800) -> bytes:
    tag = b"" if vlan is None else b"\x81\x00" + vlan.to_bytes(2, "big")
    return to + OTHER + tag + ethertype.to_bytes(2, "big") + b"payload"


@dataclass
class Model:
    """What virtio 1.4 says of Packet Receive Filtering, MAC addresses and VLANs."""

    macs: set[bytes] = field(default_factory=set)
    vlans: set[int] | None = None
    modes: dict[str, bool] = field(default_factory=dict)

    def wants(self, data: bytes) -> bool:
        if len(data) < 14:
            return False
        if self.modes["promisc"]:
            return True
        tagged = data[12:14] == b"\x81\x00"
        vlan = int.from_bytes(data[14:16], "big") % 4096 if len(data) >= 16 else None
        if self.vlans is not None and tagged and vlan not in self.vlans:
            return False
        to = data[:6]
        if to == BROADCAST:
            return not self.modes["nobcast"]
        if to[0] & 1:
            return not self.modes["nomulti"] and (self.modes["allmulti"] or to in self.macs)
        return not self.modes["nouni"] and (self.modes["alluni"] or to in self.macs)


MODES = ("promisc", "allmulti", "alluni", "nomulti", "nouni", "nobcast")
few_macs = st.integers(0, 7).map(lambda n: bytes([n & 1, 0, 0, 0, 0, n])) | st.just(BROADCAST)
some_macs = few_macs | st.binary(min_size=6, max_size=6)
few_vlans = st.integers(0, 3) | st.integers(0, 4095)


@given(
    macs=st.sets(some_macs, max_size=40),
    vlans=st.none() | st.sets(few_vlans, max_size=5),
    modes=st.fixed_dictionaries({mode: st.booleans() for mode in MODES}),
    to=some_macs,
    vlan=st.none() | st.integers(0, 3) | st.integers(0, 0xFFFF),
    ethertype=st.sampled_from([0x0800, 0x8100, 0x88A8]),
    cut=st.integers(0, 30),
)
def test_as_the_model(
    macs: set[bytes],
    vlans: set[int] | None,
    modes: dict[str, bool],
    to: bytes,
    vlan: int | None,
    ethertype: int,
    cut: int,
) -> None:
    data = frame(to, vlan=vlan, ethertype=ethertype)[: 30 - cut]
    assert ReceiveFilter(macs, vlans=vlans, **modes).wants(data) == Model(macs, vlans, modes).wants(data)


def test_its_own_address_broadcasts_and_nothing_else() -> None:
    rules = ReceiveFilter([OWN])
    assert rules.wants(frame(OWN))
    assert rules.wants(frame(BROADCAST))
    assert not rules.wants(frame(OTHER))
    assert not rules.wants(frame(GROUP))
    assert not ReceiveFilter([]).wants(frame(bytes(6)))


def test_a_full_table_holds_each_address_and_no_other() -> None:
    macs = [bytes.fromhex("5254") + number.to_bytes(4, "big") for number in range(0, 20000, 2)]
    rules = ReceiveFilter(macs)
    assert all(rules.wants(frame(mac)) for mac in macs)
    assert not any(rules.wants(frame(mac[:-1] + bytes([mac[-1] | 1]))) for mac in macs)


def test_promiscuous_wins_over_every_other_mode() -> None:
    rules = ReceiveFilter([], vlans=(), promisc=True, nomulti=True, nouni=True, nobcast=True)
    assert all(rules.wants(frame(to, vlan=9)) for to in (OWN, GROUP, BROADCAST))


def test_vlans() -> None:
    rules = ReceiveFilter([OWN], vlans=(0, 5, 4095))
    assert [vlan for vlan in range(4096) if rules.wants(frame(OWN, vlan=vlan))] == [0, 5, 4095]
    assert rules.wants(frame(OWN, vlan=0xE005))  # a priority above the id
    assert rules.wants(frame(OWN))  # no tag
    assert ReceiveFilter([OWN]).wants(frame(OWN, vlan=77))


@pytest.mark.parametrize("arguments", [{"macs": [b"12345"]}, {"vlans": [4096]}, {"vlans": [-1]}])
def test_what_cannot_be(arguments: dict[str, list[object]]) -> None:
    with pytest.raises(UsageError):
        ReceiveFilter(**arguments)  # type: ignore[arg-type]


def test_it_does_not_change() -> None:
    rules = ReceiveFilter([OWN])
    with pytest.raises(UsageError):
        rules.__init__([OTHER])  # type: ignore[misc]
    assert rules.wants(frame(OWN))
