"""How to bring a NIC up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from virtio.drivers.core import DriverOptions

__all__ = ["NetOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetOptions(DriverOptions):
    """`DriverOptions`, where ``num_queues`` counts pairs of queues, and:

    ``buffer_size``: bytes of each buffer, header included; without MRG_RXBUF it
    grows to hold what the MTU allows. ``mac``: the address where the device does not tell one; a random one
    if None. ``legacy``: speak the interface from before virtio 1.0. ``control_queue``: whether the device
    serves one; None: if it offers one and lets its configuration be read, as a back-end without either leaves
    both to its front-end. ``on_link``: called with `Net.link_up` by the watching thread when it changes.
    """

    queue_size: int = 256
    buffer_size: int = 2048
    mac: str | bytes | None = None
    legacy: bool = False
    control_queue: bool | None = None
    on_link: Callable[[bool], None] | None = None
