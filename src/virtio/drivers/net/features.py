"""Which of a network device's features the driver accepts."""

from __future__ import annotations

from virtio.spec import features as bits
from virtio.spec import net

__all__ = ["HEADER_ONLY", "WANTED", "WITH_CONTROL_QUEUE", "header_size", "prune"]

TO_DEVICE = (net.F_CSUM, net.F_HOST_TSO4, net.F_HOST_TSO6, net.F_HOST_ECN, net.F_HOST_UFO, net.F_HOST_USO)
HEADER_ONLY = (net.F_GUEST_CSUM, net.F_GUEST_HDRLEN, net.F_MRG_RXBUF)
LARGE_RECEIVE = (
    net.F_GUEST_TSO4,
    net.F_GUEST_TSO6,
    net.F_GUEST_ECN,
    net.F_GUEST_UFO,
    net.F_GUEST_USO4,
    net.F_GUEST_USO6,
    net.F_RSC_EXT,
)
"""Frames longer than the MTU may come: only with buffers that join, or are large enough."""

FROM_CONFIGURATION = (net.F_MAC, net.F_MTU, net.F_STATUS, net.F_SPEED_DUPLEX)
WITH_CONTROL_QUEUE = (
    net.F_CTRL_VQ,
    net.F_CTRL_RX,
    net.F_CTRL_RX_EXTRA,
    net.F_CTRL_VLAN,
    net.F_CTRL_MAC_ADDR,
    net.F_CTRL_GUEST_OFFLOADS,
    net.F_GUEST_ANNOUNCE,
    net.F_DEVICE_STATS,
    net.F_NOTF_COAL,
    net.F_VQ_NOTF_COAL,
    net.F_HASH_REPORT,
    net.F_HASH_TUNNEL,
    net.F_RSS,
)

WANTED = bits.mask(
    *TO_DEVICE,
    *HEADER_ONLY,
    *LARGE_RECEIVE,
    *FROM_CONFIGURATION,
    *WITH_CONTROL_QUEUE,
    net.F_MQ,
    bits.IN_ORDER,
    bits.ANY_LAYOUT,
)

LARGEST_RECEIVED = 65562  # bytes: what one buffer must hold without MRG_RXBUF (5.1.6.3.1)


def prune(offered: int, *, configuration: bool, control_queue: bool, buffer_size: int) -> int:
    """The features to want of those offered: only such as can be used, and have what they need.

    ``configuration``: the configuration space can be read. ``control_queue``: it is served. Back-ends offer
    bits without those that they need, and those for which the program between them and a guest would answer.
    """
    wanted = offered & WANTED
    if not configuration:
        wanted &= ~bits.mask(*FROM_CONFIGURATION)
    if not control_queue:
        wanted &= ~bits.mask(*WITH_CONTROL_QUEUE)
    if not wanted >> net.F_MRG_RXBUF & 1 and buffer_size < LARGEST_RECEIVED:
        wanted &= ~bits.mask(*LARGE_RECEIVE)
    if wanted >> bits.VERSION_1 & 1 or offered >> bits.VERSION_1 & 1:
        wanted &= ~bits.mask(bits.ANY_LAYOUT)  # implied
    while lacking := _lacking(wanted):
        wanted &= ~lacking
    return wanted


def _lacking(mask: int) -> int:
    """Those in the set whose needs are not; MQ is by itself where the front-end is the control queue."""
    known = bits.of(net.DEVICE.id)
    lacking = 0
    for bit in bits.bits(mask & ~bits.mask(net.F_MQ)):
        for need in known[bits.name(net.DEVICE.id, bit)].needs:
            if not any(mask >> known[choice] & 1 for choice in need.split("|")):
                lacking |= bits.mask(bit)
    return lacking


def header_size(features: int) -> int:
    """Bytes before every frame (5.1.6)."""
    if features >> net.F_HASH_REPORT & 1:
        return 20
    modern = features & bits.mask(bits.VERSION_1, net.F_MRG_RXBUF)
    return 12 if modern else 10
