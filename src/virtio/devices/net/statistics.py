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
    stats.STATS_TYPE_REPLY_RX_GSO: Kind(
        "receive",
        mask(spec.F_GUEST_TSO4, spec.F_GUEST_TSO6),
        stats.StatsRxGso,
        {"rx_gso_packets": _count("segmented"), "rx_gso_bytes": _count("segmented_bytes")},
    ),
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
        {
            "tx_csum_none": lambda counters: counters.get("frames", 0) - counters.get("partial", 0),
            "tx_needs_csum": _count("partial"),
        },
    ),
}
"""What is counted. RX_CSUM, TX_GSO and the SPEED types are not: nobody checks checksums on the way in, counts
segments, or limits the speed."""

SUPPORTED = mask(*KINDS)


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

    def _query(self, data: bytes, room: int) -> bytes:
        answer = stats.StatsCapabilities(supported_stats_types=(SUPPORTED,)).pack()
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
            if role is None or types & ~SUPPORTED:
                raise CommandRefused(f"queue {queue.vq_index}, types {types:#x}")
            for number in bits(types):
                self._check(role, KINDS[number])
                yield queue.vq_index, role, number

    def _check(self, role: Role, kind: Kind) -> None:
        if kind.role != role.kind or (kind.needs and not self._features & kind.needs):
            raise CommandRefused(f"{kind.layout.NAME} of a {role.kind} queue")

    def _reply(self, index: int, role: Role, number: int) -> bytes:
        kind = KINDS[number]
        counters = self._read(index, role)
        head = stats.StatsReplyHdr(type=number, vq_index=index, size=kind.layout.SIZE)
        return kind.layout(
            hdr=head, **{name: count(counters) & WRAP for name, count in kind.fields.items()}
        ).pack()
