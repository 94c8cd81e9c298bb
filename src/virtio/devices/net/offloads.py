"""Which frames the driver takes unfinished: the command class GUEST_OFFLOADS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtio.devices.net.commands import CommandRefused, CommandTable, command, exactly
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec.features import bits, mask

if TYPE_CHECKING:
    from virtio.devices.net.nic import Nic

__all__ = ["Offloads"]

FEATURES = {
    ctrl.OFFLOAD_GUEST_CSUM: spec.F_GUEST_CSUM,
    ctrl.OFFLOAD_GUEST_TSO4: spec.F_GUEST_TSO4,
    ctrl.OFFLOAD_GUEST_TSO6: spec.F_GUEST_TSO6,
    ctrl.OFFLOAD_GUEST_ECN: spec.F_GUEST_ECN,
    ctrl.OFFLOAD_GUEST_UFO: spec.F_GUEST_UFO,
    ctrl.OFFLOAD_GUEST_USO4: spec.F_GUEST_USO4,
    ctrl.OFFLOAD_GUEST_USO6: spec.F_GUEST_USO6,
}
"""The feature of each bit of the command."""


class Offloads:
    """Carries out GUEST_OFFLOADS_SET (virtio 1.4, 5.1.6.5, Offloads State Configuration)."""

    def __init__(self, nic: Nic) -> None:
        self._nic = nic
        self._features = 0
        self.enabled = 0
        """The features among GUEST_* that are switched on."""

    def start(self, features: int) -> None:
        """All that was negotiated is on, as the NIC has it by itself."""
        self._features = features
        self.enabled = features & mask(*FEATURES.values())

    def commands(self) -> CommandTable:
        """The one command of the class."""
        key = (ctrl.CTRL_GUEST_OFFLOADS, ctrl.CTRL_GUEST_OFFLOADS_SET)
        return {key: command(self._set, spec.F_CTRL_GUEST_OFFLOADS)}

    def _set(self, data: bytes) -> None:
        wanted = bits(int.from_bytes(exactly(data, 8), "little"))
        features = mask(*(FEATURES[bit] for bit in wanted if bit in FEATURES))
        if any(bit not in FEATURES for bit in wanted) or features & ~self._features:
            raise CommandRefused(f"offloads {wanted} were not negotiated")
        self._nic.set_offloads(features)
        self.enabled = features
