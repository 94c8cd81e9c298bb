"""Coalescing of notifications: the command class NOTF_COAL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from virtio.devices.net.commands import Command, CommandRefused, CommandTable, command, exactly
from virtio.devices.net.moderation import Delay, Moderation
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec.features import mask

__all__ = ["Coalescing"]

RECEIVE, TRANSMIT = 0, 1  # what a queue's index leaves when divided by 2


class Coalescing:
    """How long the notifications of each queue may wait (virtio 1.4, 5.1.6.5, Notifications Coalescing).

    ``enabled(index)`` says whether a queue is a receive or transmit queue in use. ``changed(index)`` is called
    when a queue has other limits: what waits may have waited long enough already.
    """

    def __init__(self, queues: int, enabled: Callable[[int], bool], changed: Callable[[int], None]) -> None:
        self.queues = [Moderation() for _ in range(queues)]
        """The limits of each receive and transmit queue, by index."""
        self._enabled = enabled
        self._changed = changed
        self._features = 0
        self._general = [ctrl.CtrlCoal(), ctrl.CtrlCoal()]  # set for all queues of a kind

    def start(self, features: int) -> None:
        """Nothing waits, as after a reset; a driver that accepted ``features`` may change that."""
        self._features = features
        self._general = [ctrl.CtrlCoal(), ctrl.CtrlCoal()]
        for queue in self.queues:
            queue.set(0, 0)

    def enable(self, index: int) -> None:
        """A queue is enabled (again): what was set for it alone is forgotten."""
        if index < len(self.queues):
            general = self._general[index % 2]
            self.queues[index].set(general.max_packets, general.max_usecs)

    def delay(self, index: int) -> Delay | None:
        """What has the notifications of a queue wait, for its worker; None if the driver cannot ask for it."""
        if not self._features & mask(spec.F_NOTF_COAL, spec.F_VQ_NOTF_COAL):
            return None
        return Delay(self.queues[index])

    def commands(self) -> CommandTable:
        """The commands of the class."""
        kind = ctrl.CTRL_NOTF_COAL
        return {
            (kind, ctrl.CTRL_NOTF_COAL_TX_SET): command(partial(self._set_all, TRANSMIT), spec.F_NOTF_COAL),
            (kind, ctrl.CTRL_NOTF_COAL_RX_SET): command(partial(self._set_all, RECEIVE), spec.F_NOTF_COAL),
            (kind, ctrl.CTRL_NOTF_COAL_VQ_SET): command(self._set_one, spec.F_VQ_NOTF_COAL),
            (kind, ctrl.CTRL_NOTF_COAL_VQ_GET): Command(mask(spec.F_VQ_NOTF_COAL), self._get_one),
        }

    def _set_all(self, kind: int, data: bytes) -> None:
        limits = ctrl.CtrlCoal.unpack(exactly(data, ctrl.CtrlCoal.SIZE))
        self._general[kind] = limits
        for index in range(kind, len(self.queues), 2):
            self._set(index, limits)

    def _set_one(self, data: bytes) -> None:
        asked = ctrl.CtrlCoalVq.unpack(exactly(data, ctrl.CtrlCoalVq.SIZE))
        self._queue(asked.vq_index)
        self._set(asked.vq_index, asked.coal)

    def _set(self, index: int, limits: ctrl.CtrlCoal) -> None:
        self.queues[index].set(limits.max_packets, limits.max_usecs)
        self._changed(index)

    def _get_one(self, data: bytes, room: int) -> bytes:
        index = int.from_bytes(exactly(data, 4)[:2], "little")  # then two reserved bytes
        queue = self._queue(index)
        if room < ctrl.CtrlCoal.SIZE:
            raise CommandRefused(f"{room} bytes for the answer")
        return ctrl.CtrlCoal(max_packets=queue.max_packets, max_usecs=queue.max_usecs).pack()

    def _queue(self, index: int) -> Moderation:
        if index >= len(self.queues) or not self._enabled(index):
            raise CommandRefused(f"queue {index} is no receive or transmit queue in use")
        return self.queues[index]
