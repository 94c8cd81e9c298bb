"""Receive modes, MAC addresses and VLANs: the command classes RX, MAC and VLAN, and the filter they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from virtio.devices.net.commands import CommandRefused, CommandTable, command, exactly
from virtio.devices.net.filter import ReceiveFilter
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec.features import mask

if TYPE_CHECKING:
    from virtio.devices.net.nic import Nic

__all__ = ["Filtering"]

MODES = {
    ctrl.CTRL_RX_PROMISC: ("promisc", spec.F_CTRL_RX),
    ctrl.CTRL_RX_ALLMULTI: ("allmulti", spec.F_CTRL_RX),
    ctrl.CTRL_RX_ALLUNI: ("alluni", spec.F_CTRL_RX_EXTRA),
    ctrl.CTRL_RX_NOMULTI: ("nomulti", spec.F_CTRL_RX_EXTRA),
    ctrl.CTRL_RX_NOUNI: ("nouni", spec.F_CTRL_RX_EXTRA),
    ctrl.CTRL_RX_NOBCAST: ("nobcast", spec.F_CTRL_RX_EXTRA),
}
_MODES_BIT = mask(spec.F_CTRL_RX, spec.F_CTRL_RX_EXTRA)
_VLAN_BIT = mask(spec.F_CTRL_VLAN)


@dataclass(frozen=True)
class Rules:
    """What the driver asked for; never changed, only replaced."""

    mac: bytes
    modes: frozenset[str] = frozenset()
    unicast: frozenset[bytes] = frozenset()
    multicast: frozenset[bytes] = frozenset()
    vlans: frozenset[int] = frozenset()


class Filtering:
    """Carries out the commands that say which frames the driver wants (virtio 1.4, 5.1.6.5.1 to 5.1.6.5.3).

    ``on_mac(address)`` is called when the driver sets another MAC address, before its command is answered.
    """

    def __init__(self, nic: Nic, mac: bytes, on_mac: Callable[[bytes], None]) -> None:
        self._nic = nic
        self._on_mac = on_mac
        self._features = 0
        self.rules = Rules(mac)

    def start(self, features: int, mac: bytes) -> None:
        """Begin with what a driver that accepted ``features`` finds: its own address, broadcasts, no VLAN.

        A driver without a control queue gets every frame: it has no way to say which it wants.
        """
        self._features = features
        self._apply(Rules(mac))

    def commands(self) -> CommandTable:
        """The commands of the three classes."""
        table = {
            (ctrl.CTRL_RX, number): command(partial(self._set_mode, name), need)
            for number, (name, need) in MODES.items()
        }
        table[ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET] = command(self._set_table, spec.F_CTRL_RX)
        table[ctrl.CTRL_MAC, ctrl.CTRL_MAC_ADDR_SET] = command(self._set_address, spec.F_CTRL_MAC_ADDR)
        table[ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_ADD] = command(partial(self._set_vlan, True), spec.F_CTRL_VLAN)
        table[ctrl.CTRL_VLAN, ctrl.CTRL_VLAN_DEL] = command(partial(self._set_vlan, False), spec.F_CTRL_VLAN)
        return table

    def set_mac(self, mac: bytes) -> None:
        """Take the NIC's own address, as a driver on the legacy interface writes it."""
        self._apply(replace(self.rules, mac=mac))

    def _set_mode(self, name: str, data: bytes) -> None:
        value = exactly(data, 1)[0]
        if value > 1:
            raise CommandRefused(f"{value} is neither on nor off")
        modes = self.rules.modes | {name} if value else self.rules.modes - {name}
        self._apply(replace(self.rules, modes=modes))

    def _set_table(self, data: bytes) -> None:
        unicast, rest = _addresses(data)
        multicast, rest = _addresses(rest)
        exactly(rest, 0)
        self._apply(replace(self.rules, unicast=unicast, multicast=multicast))

    def _set_address(self, data: bytes) -> None:
        mac = exactly(data, 6)
        if mac[0] & 1 or not any(mac):
            raise CommandRefused(f"{mac.hex(':')} is no address of one NIC")
        self._apply(replace(self.rules, mac=mac))
        self._on_mac(mac)

    def _set_vlan(self, wanted: bool, data: bytes) -> None:
        vlan = int.from_bytes(exactly(data, 2), "little")
        if vlan > 4095:
            raise CommandRefused(f"{vlan} is no VLAN id")
        vlans = self.rules.vlans | {vlan} if wanted else self.rules.vlans - {vlan}
        self._apply(replace(self.rules, vlans=vlans))

    def _apply(self, rules: Rules) -> None:
        self._nic.set_filter(self._filter_of(rules))
        self.rules = rules

    def _filter_of(self, rules: Rules) -> ReceiveFilter | None:
        if not self._features & mask(spec.F_CTRL_VQ) or not self._features & (_MODES_BIT | _VLAN_BIT):
            return None
        vlans = rules.vlans if self._features & _VLAN_BIT else None
        if not self._features & _MODES_BIT:
            return ReceiveFilter(vlans=vlans, allmulti=True, alluni=True)
        macs = {rules.mac, *rules.unicast, *rules.multicast}
        return ReceiveFilter(macs, vlans=vlans, **dict.fromkeys(rules.modes, True))


def _addresses(data: bytes) -> tuple[frozenset[bytes], bytes]:
    """The addresses of one ``struct virtio_net_ctrl_mac``, and the bytes behind it."""
    if len(data) < 4:
        raise CommandRefused("a table of addresses without a number of entries")
    end = 4 + 6 * int.from_bytes(data[:4], "little")
    if end > len(data):
        raise CommandRefused(f"a table of addresses of {end} bytes in {len(data)}")
    return frozenset(data[at : at + 6] for at in range(4, end, 6)), data[end:]
