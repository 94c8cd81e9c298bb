"""Which queues are used and how frames are spread over them: the command classes MQ and HASH_TUNNEL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from virtio.devices.net.commands import CommandRefused, CommandTable, command, exactly
from virtio.devices.net.steering import FlowSteering, RssSteering, Steering
from virtio.devices.net.toeplitz import Hasher
from virtio.errors import UsageError
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec.features import mask

if TYPE_CHECKING:
    from virtio.devices.net.nic import Nic

__all__ = ["HASH_TYPES", "KEY_BYTES", "TABLE_ENTRIES", "TUNNEL_TYPES", "Multiqueue"]

KEY_BYTES = 40
"""The longest key (``rss_max_key_size``)."""
TABLE_ENTRIES = 128
"""The longest indirection table."""
HASH_TYPES = 0x1FF
"""Every HASH_TYPE_* of the specification."""
TUNNEL_TYPES = 0x1FF
"""Every HASH_TUNNEL_TYPE_* of the specification."""


@dataclass(frozen=True)
class Choice:
    """What the driver asked for; never changed, only replaced. Without a table: automatic steering."""

    pairs: int = 1
    key: bytes = b""
    types: int = 0
    tunnels: int = 0
    table: tuple[int, ...] = ()
    unclassified: int = 0

    def steering(self, *, by_link: bool = False) -> Steering | None:
        """What chooses the queue; None: there is nothing to choose and nothing to report.

        ``by_link``: the link follows the flows itself, and only a hash would have to be reported.
        """
        if self.table:
            return RssSteering(self._hasher(), self.table, self.unclassified)
        hasher = self._hasher() if self.types else None
        if self.pairs > 1 and (hasher is not None or not by_link):
            return FlowSteering(self.pairs, hasher)
        return None if hasher is None else Steering(hasher)

    def _hasher(self) -> Hasher:
        return Hasher(self.key, self.types, self.tunnels)

    def highest(self) -> int:
        """Pairs up to the last one in use."""
        return max(self.pairs, self.unclassified + 1, *(pair + 1 for pair in self.table or (0,)))


class Multiqueue:
    """Carries out the commands that say which queues are used (virtio 1.4, 5.1.6.5.5 to 5.1.6.5.7).

    ``most_pairs`` is what the device has. A front-end that keeps the control queue to itself, as QEMU does
    over vhost-user, says by enabling rings how many pairs are used: `set_enabled`.
    """

    def __init__(self, nic: Nic, most_pairs: int) -> None:
        self._nic = nic
        self._most = most_pairs
        self._features = 0
        self._enabled: set[int] = set()
        self.choice = Choice()

    def start(self, features: int) -> None:
        """Begin with one pair and no hash, or with the pairs that the front-end has enabled."""
        self._features = features
        self._apply(Choice(pairs=self._pairs_of_rings()))

    def commands(self) -> CommandTable:
        """The commands of both classes."""
        return {
            (ctrl.CTRL_MQ, ctrl.CTRL_MQ_VQ_PAIRS_SET): command(self._set_pairs, spec.F_MQ),
            (ctrl.CTRL_MQ, ctrl.CTRL_MQ_RSS_CONFIG): command(self._set_rss, spec.F_RSS),
            (ctrl.CTRL_MQ, ctrl.CTRL_MQ_HASH_CONFIG): command(self._set_hash, spec.F_HASH_REPORT),
            (ctrl.CTRL_HASH_TUNNEL, ctrl.CTRL_HASH_TUNNEL_SET): command(
                self._set_tunnels, spec.F_HASH_TUNNEL
            ),
        }

    def set_enabled(self, pair: int, enabled: bool) -> None:
        """A receive queue's ring was enabled or disabled by the front-end."""
        self._enabled = self._enabled | {pair} if enabled else self._enabled - {pair}
        if self._by_rings and (pairs := self._pairs_of_rings()) != self.choice.pairs:
            self._apply(replace(self.choice, pairs=pairs))

    @property
    def _by_rings(self) -> bool:
        several = self._features & mask(spec.F_MQ, spec.F_RSS)
        return bool(several and not self._features & mask(spec.F_CTRL_VQ))

    def _pairs_of_rings(self) -> int:
        """How many pairs from the first one on are enabled; one at least."""
        if not self._by_rings:
            return 1
        return next((pair for pair in range(1, self._most) if pair not in self._enabled), self._most)

    def _set_pairs(self, data: bytes) -> None:
        pairs = int.from_bytes(exactly(data, 2), "little")
        if not 1 <= pairs <= self._most:
            raise CommandRefused(f"{pairs} pairs of {self._most}")
        self._apply(replace(self.choice, pairs=pairs, table=(), unclassified=0))

    def _set_rss(self, data: bytes) -> None:
        entries = int.from_bytes(data[4:6], "little") + 1
        if entries & (entries - 1) or entries > TABLE_ENTRIES:
            raise CommandRefused(f"an indirection table of {entries} entries")
        try:
            config = ctrl.RssConfig.unpack(data, indirection_table_length=entries)
        except UsageError as error:
            raise CommandRefused(str(error)) from error
        exactly(data, len(config.pack()))
        self._check_hash(config.hash_types, config.hash_key_data)
        queues = (config.unclassified_queue, *config.indirection_table)
        if not 1 <= config.max_tx_vq <= self._most or max(queues) >= self._most:
            raise CommandRefused("a queue that is not there")
        self._apply(
            replace(
                self.choice,
                pairs=config.max_tx_vq,
                key=config.hash_key_data,
                types=config.hash_types,
                table=config.indirection_table,
                unclassified=config.unclassified_queue,
            )
        )

    def _set_hash(self, data: bytes) -> None:
        try:
            config = ctrl.HashConfig.unpack(data)
        except UsageError as error:
            raise CommandRefused(str(error)) from error
        exactly(data, len(config.pack()))
        self._check_hash(config.hash_types, config.hash_key_data)
        choice = replace(self.choice, key=config.hash_key_data, types=config.hash_types)
        self._apply(replace(choice, table=(), unclassified=0))

    def _check_hash(self, types: int, key: bytes) -> None:
        if types & ~HASH_TYPES or len(key) > KEY_BYTES or (types and not key):
            raise CommandRefused(f"hash types {types:#x} with a key of {len(key)} bytes")

    def _set_tunnels(self, data: bytes) -> None:
        tunnels = int.from_bytes(exactly(data, 4), "little")
        if tunnels & ~TUNNEL_TYPES:
            raise CommandRefused(f"unknown tunnel types {tunnels:#x}")
        self._apply(replace(self.choice, tunnels=tunnels))

    def _apply(self, choice: Choice) -> None:
        self._nic.set_steering(None)  # between two choices a frame goes by neither's queues
        self._nic.set_pairs(choice.highest())
        by_link = self._nic.link.use_queues(choice.highest())
        self._nic.set_steering(choice.steering(by_link=by_link))
        self.choice = choice
