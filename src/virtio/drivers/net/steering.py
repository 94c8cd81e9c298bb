"""What a NIC can be told over its control queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from virtio.drivers.core import Driver
from virtio.drivers.net import commands
from virtio.drivers.net.commands import Command, parse_mac
from virtio.errors import UnsupportedRequestError, UsageError
from virtio.spec import features as bits
from virtio.spec import net

if TYPE_CHECKING:
    from virtio.drivers.net.control import ControlQueue

__all__ = ["Steering"]

MODE_NEEDS = {"promisc": net.F_CTRL_RX, "allmulti": net.F_CTRL_RX}


class Steering(Driver):
    """The commands, for `Net`. Each raises UnsupportedRequestError where it was not negotiated and
    RequestFailedError where the device says no.
    """

    control: ControlQueue | None
    _mac: bytes

    def run_command(self, command: Command, feature: int = net.F_CTRL_VQ) -> bytes:
        """Have a command carried out; its result."""
        if self.control is None or not self.has(feature):
            raise UnsupportedRequestError(
                f"the device takes no such command: {bits.name(net.DEVICE.id, feature)} is not negotiated"
            )
        return self.control.run(command, self.options.timeout)

    def set_mac(self, address: str | bytes) -> None:
        """Change the device's own address (CTRL_MAC_ADDR)."""
        mac = parse_mac(address)
        self.run_command(commands.set_mac(mac), net.F_CTRL_MAC_ADDR)
        self._mac = mac

    def set_mac_table(
        self, unicast: Iterable[str | bytes] = (), multicast: Iterable[str | bytes] = ()
    ) -> None:
        """Receive what is sent to these addresses too."""
        self.run_command(
            commands.set_mac_table(map(parse_mac, unicast), map(parse_mac, multicast)), net.F_CTRL_RX
        )

    def set_rx_mode(self, **modes: bool) -> None:
        """Switch ``promisc``, ``allmulti``, ``alluni``, ``nomulti``, ``nouni``, ``nobcast`` on or off."""
        for name, on in modes.items():
            if name not in commands.RX_MODES:
                raise UsageError(f"there is no receive mode {name}: choose of {', '.join(commands.RX_MODES)}")
            need = MODE_NEEDS.get(name, net.F_CTRL_RX_EXTRA)
            self.run_command(commands.rx_mode(name, on=on), need)

    def set_vlan(self, identifier: int, *, on: bool = True) -> None:
        """Receive a VLAN, or no longer."""
        self.run_command(commands.vlan(identifier, add=on), net.F_CTRL_VLAN)

    def set_offloads(self, *features: int) -> None:
        """Receive unfinished frames of these kinds alone: GUEST_* features that were negotiated."""
        mask = 0
        for feature in features:
            if not self.has(feature):
                raise UsageError(f"feature {int(feature)} was not negotiated")
            mask |= 1 << feature
        self.run_command(commands.offloads(mask), net.F_CTRL_GUEST_OFFLOADS)

    def set_coalescing(self, *, receive: bool, max_packets: int, max_usecs: int) -> None:
        """Have the device notify once for so many frames, or after so many microseconds."""
        command = commands.coalescing(receive=receive, max_packets=max_packets, max_usecs=max_usecs)
        self.run_command(command, net.F_NOTF_COAL)

    def set_rss(
        self,
        hash_types: int,
        table: Sequence[int],
        key: bytes,
        *,
        unclassified: int = 0,
        max_tx: int = 1,
    ) -> None:
        """Spread received frames over the pairs by their hash; ``table`` holds numbers of pairs."""
        command = commands.rss(hash_types, table, key, unclassified=unclassified, max_tx=max_tx)
        self.run_command(command, net.F_RSS)

    def set_hash_report(self, hash_types: int, key: bytes) -> None:
        """Which hashes come with received frames."""
        self.run_command(commands.hashes(hash_types, key), net.F_HASH_REPORT)
