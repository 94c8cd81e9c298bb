"""Throw-away Linux guests with devices attached, on QEMU or User-Mode Linux."""

from virtio.vm.agent import Result
from virtio.vm.devices import Attached, Blk, Drive, Net, Rng, VhostUser
from virtio.vm.guest import Guest

__all__ = ["Attached", "Blk", "Drive", "Guest", "Net", "Result", "Rng", "VhostUser"]
