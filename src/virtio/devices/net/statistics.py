"""Counters for the driver: the command class STATS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from virtio.devices.net.commands import Command, CommandRefused, CommandTable
from virtio.errors import UsageError
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec import net_stats as stats
from virtio.spec.features import bits, mask
from virtio.spec.layout import Struct

__all__ = ["Role", "Statistics"]

WRAP = (1 << 64) - 1  # counters go on at zero
Counters = dict[str, int]


class Role(NamedTuple):
    """What a virtqueue is: "receive", "transmit" or "control", of which pair."""

    kind: str
    pair: int = 0


class Kind(NamedTuple):
    """One type of statistics: of which queues, after which features (any of the mask), and its fields."""

    role: str
    needs: int
    layout: type[Struct]
    fields: dict[str, Callable[[Counters], int]]


def _count(*names: str) -> Callable[[Counters], int]:
    return lambda counters: sum(counters.get(name, 0) for name in names)


def _less(name: str, *less: str) -> Callable[[Counters], int]:
    """The counters are read one after the other while frames pass: a difference is not below 0."""
    return lambda counters: max(0, counters.get(name, 0) - sum(counters.get(other, 0) for other in less))


DROPS = ("runt", "giant", "header", "offload", "filtered", "down", "full")
"""Why the NIC drops frames, as its counters are named."""

KINDS: dict[int, Kind] = {
    stats.STATS_TYPE_REPLY_CVQ: Kind(
        "control", 0, stats.StatsCvq, {"command_num": _count("commands"), "ok_num": _count("ok")}
    ),
    stats.STATS_TYPE_REPLY_RX_BASIC: Kind(
        "receive",
        0,
        stats.StatsRxBasic,
        {
            "rx_notifications": _count("kicks"),
            "rx_packets": _count("frames"),
            "rx_bytes": _count("bytes"),
            "rx_interrupts": _count("notifications"),
            "rx_drops": _count(*DROPS),
            "rx_drop_overruns": _count("full"),
        },
    ),
    stats.STATS_TYPE_REPLY_RX_CSUM: Kind(
        "receive",
        mask(spec.F_GUEST_CSUM),
        stats.StatsRxCsum,
        {
            "rx_csum_valid": _count("valid"),
            "rx_needs_csum": _count("partial"),
            "rx_csum_none": _less("frames", "partial", "valid"),
        },
    ),
    stats.STATS_TYPE_REPLY_RX_GSO: Kind(
        "receive",
        mask(spec.F_GUEST_TSO4, spec.F_GUEST_TSO6),
        stats.StatsRxGso,
        {
            "rx_gso_packets": _count("segmented"),
            "rx_gso_bytes": _count("segmented_bytes"),
            "rx_gso_packets_coalesced": _count("joined"),
            "rx_gso_bytes_coalesced": _count("joined_bytes"),
        },
    ),
    stats.STATS_TYPE_REPLY_RX_SPEED: Kind("receive", 0, stats.StatsRxSpeed, {}),
    stats.STATS_TYPE_REPLY_TX_BASIC: Kind(
        "transmit",
        0,
        stats.StatsTxBasic,
        {
            "tx_notifications": _count("kicks"),
            "tx_packets": _count("frames"),
            "tx_bytes": _count("bytes"),
            "tx_interrupts": _count("notifications"),
            "tx_drops": _count(*DROPS),
            "tx_drop_malformed": _count("runt", "giant", "header", "offload"),
        },
    ),
    stats.STATS_TYPE_REPLY_TX_CSUM: Kind(
        "transmit",
        mask(spec.F_CSUM),
        stats.StatsTxCsum,
        {"tx_csum_none": _less("sent", "unsummed"), "tx_needs_csum": _count("unsummed")},
    ),
    stats.STATS_TYPE_REPLY_TX_GSO: Kind(
        "transmit",
        mask(spec.F_HOST_TSO4, spec.F_HOST_TSO6, spec.F_HOST_USO),
        stats.StatsTxGso,
        {
            "tx_gso_packets": _count("cut", "segmented"),
            "tx_gso_bytes": _count("cut_bytes", "segmented_bytes"),
            "tx_gso_segments": _count("pieces"),
            "tx_gso_segments_bytes": _count("piece_bytes"),
            "tx_gso_packets_noseg": _count("segmented"),
            "tx_gso_bytes_noseg": _count("segmented_bytes"),
        },
    ),
    stats.STATS_TYPE_REPLY_TX_SPEED: Kind("transmit", 0, stats.StatsTxSpeed, {}),
}
"""What is counted. A field that is left out is 0, and stays so: the NIC counts no checksum as wrong,
since it looks at those alone of what it may join, and it drops nothing for the sake of a speed."""


class Statistics:
    """Answers STATS_QUERY and STATS_GET (virtio 1.4, Network Device, Device Statistics).

    ``role(index)`` says what a virtqueue is, None: it does not exist; ``read(role)`` gives its counters.
    """

    def __init__(self, role: Callable[[int], Role | None], read: Callable[[int, Role], Counters]) -> None:
        self._role = role
        self._read = read
        self._features = 0

    def start(self, features: int) -> None:
        """Serve a driver that accepted ``features``."""
        self._features = features

    def commands(self) -> CommandTable:
        """The commands of the class."""
        need = mask(spec.F_DEVICE_STATS)
        return {
            (ctrl.CTRL_STATS, ctrl.CTRL_STATS_QUERY): Command(need, self._query),
            (ctrl.CTRL_STATS, ctrl.CTRL_STATS_GET): Command(need, self._get),
        }

    @property
    def supported(self) -> int:
        """The types that this driver can ask for, as bits STATS_TYPE_*.

        Those of features that it did not accept are left out: Linux asks for all that are named, and is
        refused all if one of them is.
        """
        return mask(*(number for number, kind in KINDS.items() if self._serves(kind)))

    def _serves(self, kind: Kind) -> bool:
        return not kind.needs or bool(self._features & kind.needs)

    def _query(self, data: bytes, room: int) -> bytes:
        answer = stats.StatsCapabilities(supported_stats_types=(self.supported,)).pack()
        if data or room < len(answer):
            raise CommandRefused(f"{len(data)} bytes of data, {room} for the answer")
        return answer

    def _get(self, data: bytes, room: int) -> bytes:
        """As many whole replies as fit."""
        asked = list(self._asked(data))
        answer = b""
        for index, role, number in asked:
            reply = self._reply(index, role, number)
            if len(answer) + len(reply) > room:
                break
            answer += reply
        return answer

    def _asked(self, data: bytes) -> Iterator[tuple[int, Role, int]]:
        """Every (queue, type) that the command names; one error fails it all."""
        if not data or len(data) % stats.QueueStats.SIZE:
            raise CommandRefused(f"{len(data)} bytes are no list of queues")
        try:
            queues: tuple[Any, ...] = stats.CtrlQueueStats.unpack(data).stats
        except UsageError as error:
            raise CommandRefused(str(error)) from error
        for queue in queues:
            role = self._role(queue.vq_index)
            types = queue.types_bitmap[0]
            if role is None or types & ~self.supported:
                raise CommandRefused(f"queue {queue.vq_index}, types {types:#x}")
            for number in bits(types):
                if KINDS[number].role != role.kind:
                    raise CommandRefused(f"{KINDS[number].layout.NAME} of a {role.kind} queue")
                yield queue.vq_index, role, number

    def _reply(self, index: int, role: Role, number: int) -> bytes:
        kind = KINDS[number]
        counters = self._read(index, role)
        head = stats.StatsReplyHdr(type=number, vq_index=index, size=kind.layout.SIZE)
        return kind.layout(
            hdr=head, **{name: count(counters) & WRAP for name, count in kind.fields.items()}
        ).pack()
