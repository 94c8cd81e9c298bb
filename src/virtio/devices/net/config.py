"""What the driver reads of a NIC: its configuration space and the features it is offered."""

from __future__ import annotations

import os
import re

from virtio.device import ConfigSpace
from virtio.devices.net.multiqueue import HASH_TYPES, KEY_BYTES, TABLE_ENTRIES, TUNNEL_TYPES
from virtio.errors import UsageError
from virtio.spec import net as spec
from virtio.spec.features import mask

__all__ = [
    "DUPLEX",
    "HIGHEST_MTU",
    "LOWEST_MTU",
    "check_mtu",
    "initial_config",
    "offered_features",
    "parse_mac",
    "random_mac",
]

LOWEST_MTU, HIGHEST_MTU = 68, 65535
"""Bytes (virtio 1.4, 5.1.4.1)."""
UNKNOWN_SPEED, UNKNOWN_DUPLEX = 0xFFFFFFFF, 0xFF
DUPLEX = {"half": 0, "full": 1}
MOST_SPEED = 0x7FFFFFFF

ALWAYS = mask(
    spec.F_CSUM,
    spec.F_GUEST_CSUM,
    spec.F_CTRL_GUEST_OFFLOADS,
    spec.F_MAC,
    spec.F_GUEST_TSO4,
    spec.F_GUEST_TSO6,
    spec.F_GUEST_ECN,
    spec.F_GUEST_UFO,
    spec.F_HOST_TSO4,
    spec.F_HOST_TSO6,
    spec.F_HOST_ECN,
    spec.F_HOST_UFO,
    spec.F_MRG_RXBUF,
    spec.F_STATUS,
    spec.F_CTRL_VQ,
    spec.F_CTRL_RX,
    spec.F_CTRL_VLAN,
    spec.F_CTRL_RX_EXTRA,
    spec.F_GUEST_ANNOUNCE,
    spec.F_CTRL_MAC_ADDR,
    spec.F_DEVICE_STATS,
    spec.F_VQ_NOTF_COAL,
    spec.F_NOTF_COAL,
    spec.F_GUEST_USO4,
    spec.F_GUEST_USO6,
    spec.F_HOST_USO,
    spec.F_GUEST_HDRLEN,
    spec.F_RSC_EXT,
)
"""Every NIC has these: what its link does not finish of a frame, the NIC does."""

OFFLOADS = mask(
    spec.F_CSUM,
    spec.F_GUEST_CSUM,
    spec.F_CTRL_GUEST_OFFLOADS,
    spec.F_GUEST_TSO4,
    spec.F_GUEST_TSO6,
    spec.F_GUEST_ECN,
    spec.F_GUEST_UFO,
    spec.F_HOST_TSO4,
    spec.F_HOST_TSO6,
    spec.F_HOST_ECN,
    spec.F_HOST_UFO,
    spec.F_GUEST_USO4,
    spec.F_GUEST_USO6,
    spec.F_HOST_USO,
    spec.F_GUEST_HDRLEN,
    spec.F_RSC_EXT,
)
"""Those that leave frames unfinished."""


def offered_features(
    *, offloads: bool, pairs: int, rss: bool, hash_report: bool, mtu: bool, speed: bool, standby: bool
) -> int:
    """The feature bits of a NIC like that."""
    offered = ALWAYS if offloads else ALWAYS & ~OFFLOADS
    for wanted, feature in (
        (pairs > 1, spec.F_MQ),
        (rss, spec.F_RSS),
        (hash_report, spec.F_HASH_REPORT),
        (rss or hash_report, spec.F_HASH_TUNNEL),
        (mtu, spec.F_MTU),
        (speed, spec.F_SPEED_DUPLEX),
        (standby, spec.F_STANDBY),
    ):
        if wanted:
            offered |= mask(feature)
    return offered


def initial_config(
    mac: bytes, *, pairs: int, mtu: int | None, speed: int | None, duplex: str | None, hashes: bool
) -> ConfigSpace:
    """What the driver first reads; the fields of features that are not offered are left out at the end."""
    values = {
        "mac": mac,
        "status": spec.S_LINK_UP,
        "max_virtqueue_pairs": pairs,
        "mtu": mtu or 0,
        "speed": UNKNOWN_SPEED if speed is None else speed,
        "duplex": UNKNOWN_DUPLEX if duplex is None else DUPLEX[duplex],
    }
    if hashes:
        values.update(
            rss_max_key_size=KEY_BYTES,
            rss_max_indirection_table_length=TABLE_ENTRIES,
            supported_hash_types=HASH_TYPES,
            supported_tunnel_types=TUNNEL_TYPES,
        )
    cut_off = None if hashes else "rss_max_key_size"
    # A legacy driver writes its address here; a modern one may not, and is held to that by the device.
    return ConfigSpace(spec.Config, writable=("mac",), cut_off=cut_off, **values)


def check_speed(speed: int | None, duplex: str | None) -> None:
    """Raise UsageError for a speed or a duplex mode that cannot be said."""
    if speed is not None and not 0 <= speed <= MOST_SPEED:
        raise UsageError(f"a speed is 0 to {MOST_SPEED} Mbit/s, not {speed}")
    if duplex is not None and duplex not in DUPLEX:
        raise UsageError(f"duplex is half or full, not {duplex!r}")


def check_mtu(mtu: int, *, most: int | None) -> None:
    """Raise UsageError for an MTU that cannot be, or that the link (``most`` bytes) cannot carry."""
    if not LOWEST_MTU <= mtu <= HIGHEST_MTU:
        raise UsageError(f"an MTU is {LOWEST_MTU} to {HIGHEST_MTU} bytes, not {mtu}")
    if most is not None and mtu > most:
        raise UsageError(f"an MTU of {mtu} bytes is more than the link's {most}")


def parse_mac(mac: str | bytes) -> bytes:
    """An address of one NIC: 6 bytes, or text as in 52:54:00:12:34:56. Raises UsageError."""
    if isinstance(mac, str):
        if not re.fullmatch(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}", mac):
            raise UsageError(f"{mac!r} is no MAC address", fix="write one such as 52:54:00:12:34:56")
        mac = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    if len(mac) != 6:
        raise UsageError(f"a MAC address has 6 bytes, not {len(mac)}")
    if mac[0] & 1 or not any(mac):
        raise UsageError(
            f"{mac.hex(':')} is not the address of one NIC", fix="use one such as 52:54:00:12:34:56"
        )
    return mac


def random_mac() -> bytes:
    """A locally administered address that nobody else has, in all likelihood."""
    return b"\x52\x54\x00" + os.urandom(3)
