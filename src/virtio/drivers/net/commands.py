"""The control queue's commands as bytes (virtio 1.4, 5.1.6.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from virtio.errors import UsageError
from virtio.spec import net_control as ctrl

__all__ = ["Command", "format_mac", "parse_mac"]

VLANS = 4096
RX_MODES = {
    "promisc": ctrl.CTRL_RX_PROMISC,
    "allmulti": ctrl.CTRL_RX_ALLMULTI,
    "alluni": ctrl.CTRL_RX_ALLUNI,
    "nomulti": ctrl.CTRL_RX_NOMULTI,
    "nouni": ctrl.CTRL_RX_NOUNI,
    "nobcast": ctrl.CTRL_RX_NOBCAST,
}


class Command(NamedTuple):
    """A class, a number and the data; ``room`` bytes for a result beside the acknowledgement."""

    class_: int
    command: int
    data: bytes = b""
    room: int = 0

    def pack(self) -> bytes:
        """The device-readable part."""
        return bytes((self.class_, self.command)) + self.data


def parse_mac(address: str | bytes) -> bytes:
    """Six bytes, from themselves or from ``52:54:00:12:34:56``."""
    try:
        data = (
            address
            if isinstance(address, bytes)
            else bytes.fromhex(address.replace("-", ":").replace(":", ""))
        )
    except ValueError:
        data = b""
    if len(data) != 6:
        raise UsageError(f"{address!r} is not an Ethernet address")
    return data


def format_mac(address: bytes) -> str:
    """``52:54:00:12:34:56``."""
    return address.hex(":")


def set_mac(address: bytes) -> Command:
    """The device's own address."""
    if address[0] & 1:
        raise UsageError(f"{format_mac(address)} is a multicast address")
    return Command(ctrl.CTRL_MAC, ctrl.CTRL_MAC_ADDR_SET, address)


def set_mac_table(unicast: Iterable[bytes], multicast: Iterable[bytes]) -> Command:
    """The addresses to receive for, beside the device's own."""
    return Command(ctrl.CTRL_MAC, ctrl.CTRL_MAC_TABLE_SET, _addresses(unicast) + _addresses(multicast))


def _addresses(addresses: Iterable[bytes]) -> bytes:
    macs = tuple(ctrl.MacAddress(address=address) for address in addresses)
    return ctrl.CtrlMac(entries=len(macs), macs=macs).pack()


def rx_mode(name: str, *, on: bool) -> Command:
    """One of `RX_MODES` on or off."""
    return Command(ctrl.CTRL_RX, RX_MODES[name], bytes([on]))


def vlan(identifier: int, *, add: bool) -> Command:
    """A VLAN to receive, or no longer to."""
    if not 0 <= identifier < VLANS:
        raise UsageError(f"there is no VLAN {identifier}: they are 0 to {VLANS - 1}")
    number = ctrl.CTRL_VLAN_ADD if add else ctrl.CTRL_VLAN_DEL
    return Command(ctrl.CTRL_VLAN, number, identifier.to_bytes(2, "little"))


def pairs(count: int) -> Command:
    """How many pairs of queues are used."""
    return Command(ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET, ctrl.CtrlMqPairsSet(virtqueue_pairs=count).pack())


def announced() -> Command:
    """The peers were told where we are."""
    return Command(ctrl.CTRL_ANNOUNCE, ctrl.CTRL_ANNOUNCE_ACK)


def offloads(mask: int) -> Command:
    """Which received frames may come unfinished."""
    return Command(ctrl.CTRL_GUEST_OFFLOADS, ctrl.CTRL_GUEST_OFFLOADS_SET, mask.to_bytes(8, "little"))


def coalescing(*, receive: bool, max_packets: int, max_usecs: int) -> Command:
    """When to notify of received or sent frames."""
    number = ctrl.CTRL_NOTF_COAL_RX_SET if receive else ctrl.CTRL_NOTF_COAL_TX_SET
    data = ctrl.CtrlCoal(max_packets=max_packets, max_usecs=max_usecs).pack()
    return Command(ctrl.CTRL_NOTF_COAL, number, data)


def rss(hash_types: int, table: Sequence[int], key: bytes, *, unclassified: int, max_tx: int) -> Command:
    """Receive-side scaling; the table's length is a power of two."""
    if not table or len(table) & (len(table) - 1):
        raise UsageError(f"an indirection table of {len(table)} entries: a power of two is needed")
    data = ctrl.RssConfig(
        hash_types=hash_types,
        indirection_table_mask=len(table) - 1,
        unclassified_queue=unclassified,
        indirection_table=tuple(table),
        max_tx_vq=max_tx,
        hash_key_length=len(key),
        hash_key_data=key,
    )
    return Command(ctrl.CTRL_MQ, ctrl.CTRL_MQ_RSS_CONFIG, data.pack())


def hashes(hash_types: int, key: bytes) -> Command:
    """Which hashes are reported with received frames."""
    data = ctrl.HashConfig(hash_types=hash_types, hash_key_length=len(key), hash_key_data=key)
    return Command(ctrl.CTRL_MQ, ctrl.CTRL_MQ_HASH_CONFIG, data.pack())
