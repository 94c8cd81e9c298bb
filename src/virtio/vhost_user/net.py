"""What vhost-user has for network devices alone: a guest's announcement, and the MTU it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from virtio.vhost_user.messages import ProtocolFeature
from virtio.vhost_user.payloads import Number

if TYPE_CHECKING:
    from virtio.device import Device
    from virtio.vhost_user.connection import Request
    from virtio.vhost_user.control import DeviceControl

__all__ = ["NetworkDevice", "net_set_mtu", "offered_for", "queue_count", "send_rarp"]

_P = ProtocolFeature
_QEMU_CANNOT = _P.CONFIG.mask | _P.CONFIGURE_MEM_SLOTS.mask
_NETWORK = _P.RARP.mask | _P.MTU.mask


@runtime_checkable
class NetworkDevice(Protocol):
    """What a device implements to be offered RARP and MTU. Both come on the control thread."""

    def send_rarp(self, mac: bytes) -> None:
        """Announce this address to the network: the guest was migrated here."""

    def limit_mtu(self, mtu: int) -> None:
        """The driver is told this MTU, in bytes. Raise UsageError if it cannot be."""


def offered_for(device: Device, offered: int, *, owned: bool) -> int:
    """The protocol features to offer for ``device``, of those ``offered`` to all and those of networks.

    ``owned``: the front-end said SET_OWNER before it asks. QEMU does not, and shows a NIC's configuration of
    its own to the guest; 7.1 to 8.0 crash if a NIC's back-end has one to give, and add the guest's memory
    once for each pair of queues where they can do it region by region. It asks again for each pair, by then
    as the owner.
    """
    if not isinstance(device, NetworkDevice):
        return offered
    return (offered if owned else offered & ~_QEMU_CANNOT) | _NETWORK


def queue_count(device: Device, rings: int, *, owned: bool) -> int:
    """What GET_QUEUE_NUM is answered, for a device with so many rings.

    Of a NIC, QEMU expects the number of pairs, and refuses to have more of them than that; DPDK's back-end
    answers so. Cloud Hypervisor and crosvm expect the number of queues, as with any other device. QEMU is the
    one that asks before SET_OWNER (see `offered_for`).
    """
    return rings // 2 if isinstance(device, NetworkDevice) and not owned else rings


def send_rarp(control: DeviceControl, request: Request) -> int:
    """SEND_RARP: the guest was migrated here and cannot say so itself. The address is in the first bytes."""
    _network(control).send_rarp(_number(request).to_bytes(8, "little")[:6])
    return 0


def net_set_mtu(control: DeviceControl, request: Request) -> int:
    """NET_SET_MTU: what the front-end told the driver."""
    _network(control).limit_mtu(_number(request))
    return 0


def _network(control: DeviceControl) -> NetworkDevice:
    device = control.attachment.device
    assert isinstance(device, NetworkDevice)  # others are not offered what these requests need
    return device


def _number(request: Request) -> int:
    assert isinstance(request.payload, Number)
    return request.payload.value
