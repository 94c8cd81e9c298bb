"""The network device: what the driver sees of a link."""

from __future__ import annotations

from typing import Any

from virtio.device import Device, HandlerWorker, Queue, Request
from virtio.device.worker import QueueWorker
from virtio.devices.net.announcement import rarp
from virtio.devices.net.coalescing import Coalescing
from virtio.devices.net.commands import CommandTable, command, exactly
from virtio.devices.net.config import (
    check_mtu,
    check_speed,
    initial_config,
    offered_features,
    parse_mac,
    random_mac,
)
from virtio.devices.net.control import LARGEST_COMMAND, Control
from virtio.devices.net.filtering import Filtering
from virtio.devices.net.multiqueue import Multiqueue
from virtio.devices.net.nic import Nic
from virtio.devices.net.offloads import Offloads
from virtio.devices.net.receive import Receiver
from virtio.devices.net.send import send
from virtio.devices.net.statistics import Role, Statistics
from virtio.devices.net.transmit import Transmitter
from virtio.errors import UsageError
from virtio.network import Link, open_link
from virtio.spec import net as spec
from virtio.spec import net_control as ctrl
from virtio.spec.features import VERSION_1, mask
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Net"]

MOST_PAIRS = 256


class Net(Device):
    """A NIC for the guest, at the end of ``link``: a URL, or a Link that stays the caller's.

    ``mac`` is its address, 6 bytes or text; by default one at random from 52:54:00. ``mtu`` in bytes, by
    default the link's, if it has one; the driver is told. ``num_queues`` pairs of queues of ``queue_size``
    descriptors each are served in parallel. ``speed`` in Mbit/s and ``duplex``, "half" or "full", are what
    the driver is told of the line. ``standby`` offers itself as the second of a pair with one address.

    ``offloads=False`` has the driver send and receive finished frames only. ``rss`` lets the driver say by
    hash which queue a frame goes to, by default if there are several. ``hash_report`` gives the driver the
    hash of each frame, which costs time for each. ``name`` is for log lines, by default the link's.

    Raises UsageError for what cannot be, NetworkError for a link that cannot be used.
    """

    device_id = spec.DEVICE.id
    # QEMU keeps the control queue to itself over vhost-user, and accepts for us what rests on it.
    kept_features = mask(spec.F_CTRL_VQ)

    def __init__(
        self,
        link: str | Link,
        *,
        mac: str | bytes | None = None,
        mtu: int | None = None,
        num_queues: int = 1,
        queue_size: int = 256,
        speed: int | None = None,
        duplex: str | None = None,
        standby: bool = False,
        offloads: bool = True,
        rss: bool | None = None,
        hash_report: bool = False,
        name: str | None = None,
    ) -> None:
        if not 1 <= num_queues <= MOST_PAIRS:
            raise UsageError(f"a NIC has 1 to {MOST_PAIRS} pairs of queues, not {num_queues}")
        check_speed(speed, duplex)
        self._mac = random_mac() if mac is None else parse_mac(mac)
        rss = num_queues > 1 if rss is None else rss
        self._owns_link = not isinstance(link, Link)
        self.link = link if isinstance(link, Link) else open_link(link)
        try:
            mtu = self.link.mtu if mtu is None else mtu
            if mtu is not None:
                check_mtu(mtu, most=self.link.mtu)
            self._make_parts(num_queues)
            self.name = name or self.link.name
            self.queues = _queues(num_queues, queue_size)
            self.features = offered_features(
                offloads=offloads,
                pairs=num_queues,
                rss=rss,
                hash_report=hash_report,
                mtu=mtu is not None,
                speed=speed is not None or duplex is not None,
                standby=standby,
            )
            self.config = initial_config(
                self._mac, pairs=num_queues, mtu=mtu, speed=speed, duplex=duplex, hashes=rss or hash_report
            )
            self.nic.connect()
        except BaseException:
            if self._owns_link:
                self.link.close()
            raise
        self._up = True
        self._closed = False
        self.link.on_carrier(self._carrier)
        self._carrier(self.link.up)

    def _make_parts(self, pairs: int) -> None:
        self._accepted = 0
        self._pairs = pairs
        self.nic = Nic(self.link, pairs)
        self.filtering = Filtering(self.nic, self._mac, self._address_set)
        self.multiqueue = Multiqueue(self.nic, pairs)
        self.coalescing = Coalescing(2 * pairs, self._in_use, self._limits_changed)
        self.offloading = Offloads(self.nic)
        self.statistics = Statistics(self._role, self._counters)
        parts = (self.filtering, self.multiqueue, self.coalescing, self.offloading, self.statistics)
        self.control = Control(self._commands(), *(part.commands() for part in parts))

    # What the administrator may do.

    @property
    def mac(self) -> bytes:
        """The address that the NIC has now: its own, or the one that the driver set."""
        return self.filtering.rules.mac

    @property
    def link_up(self) -> bool:
        """Whether the driver sees a carrier."""
        return bool(self.config.status & spec.S_LINK_UP)

    def set_link(self, up: bool) -> None:
        """Plug the cable in, or pull it: frames pass or not, and the driver is told."""
        self._up = up
        self._carrier(self.link.up)

    def set_mtu(self, mtu: int) -> None:
        """Say the largest payload of a frame, in bytes, to the drivers that come from now on.

        UsageError while a driver uses the one it was told: it may not change then (virtio 1.4, 5.1.4.1); or
        if the link cannot carry it.
        """
        check_mtu(mtu, most=self.link.mtu)
        if mtu != self.config.mtu and self._accepted & mask(spec.F_MTU):
            raise UsageError(
                "the MTU cannot change while a driver uses it", fix="reset the guest's NIC first"
            )
        self.features |= mask(spec.F_MTU)
        self.config.assign(mtu=mtu)

    def announce(self) -> None:
        """Have the network learn where the guest is now, as after a migration.

        A driver that can (GUEST_ANNOUNCE) is asked to say so; for another one the NIC does.
        """
        if self._accepted & mask(spec.F_GUEST_ANNOUNCE) and self._accepted & mask(spec.F_CTRL_VQ):
            self.set_config(status=self.config.status | spec.S_ANNOUNCE)
        else:
            self.send_rarp(self.mac)

    # What a vhost-user front-end asks of a NIC, see virtio.vhost_user.net.

    def send_rarp(self, mac: bytes) -> None:
        """Announce ``mac`` to the network on the guest's behalf."""
        send(self.link, rarp(mac))

    def limit_mtu(self, mtu: int) -> None:
        """The front-end told the driver this MTU. UsageError if the link cannot carry it."""
        check_mtu(mtu, most=self.link.mtu)
        self.config.assign(mtu=mtu)
        if self._accepted & mask(spec.F_MTU):
            self.nic.set_mtu(mtu)

    # What the device is told.

    def on_ready(self, features: int) -> None:
        """A driver is there: begin with nothing but what it accepted."""
        self._start(features)

    def on_reset(self) -> None:
        """As new, with the address and status that the administrator gave."""
        self._start(0)

    def _start(self, features: int) -> None:
        self._accepted = features
        self.nic.set_features(features)
        if features & mask(spec.F_MTU):
            self.nic.set_mtu(self.config.mtu)
        if not features:
            self.config.assign(mac=self._mac, status=self.config.status & ~spec.S_ANNOUNCE)
        self.filtering.start(features, bytes(self.config.mac))
        self.multiqueue.start(features)
        self.coalescing.start(features)
        self.offloading.start(features)
        self.statistics.start(features)
        self.control.start(features)

    def on_queue(self, index: int, enabled: bool) -> None:
        """A ring was enabled or disabled."""
        if index % 2 == 0 and index < 2 * self._pairs:
            self.multiqueue.set_enabled(index // 2, enabled)
        if enabled:
            self.coalescing.enable(index)

    def on_config_write(self, changed: tuple[str, ...]) -> None:
        """A legacy driver sets its address here; another one may not (virtio 1.4, 5.1.4.2)."""
        if "mac" not in changed:
            return
        if self._accepted & mask(VERSION_1):
            self.config.assign(mac=self.mac)
        else:
            self.filtering.set_mac(bytes(self.config.mac))

    # The queues.

    def make_worker(self, index: int, queue: DeviceQueue) -> QueueWorker:
        """The engine of a receive or transmit queue; the control queue's handler."""
        role = self._role(index)
        if role is None:  # some front-ends start every ring that there could be
            return HandlerWorker(queue, self._without_use, self._report)
        if role.kind == "receive":
            return Receiver(queue, self.nic, role.pair, self.coalescing.delay(index))
        if role.kind == "transmit":
            return Transmitter(queue, self.nic, role.pair, self.coalescing.delay(index))
        return super().make_worker(2 * self._pairs, queue)

    def controlq(self, request: Request) -> None:
        """One command; without room for its answer it is none."""
        if not request.writable_length:
            return
        readable = request.readable_length <= LARGEST_COMMAND
        request.write(self.control.execute(request.read() if readable else b"", request.writable_length))

    def _without_use(self, request: Request) -> None:
        """A queue that does not exist with the features accepted: nothing is done, nothing is OK."""
        if request.writable_length:
            request.write(bytes([ctrl.ERR]))

    def failed(self, request: Request, error: BaseException) -> None:
        """Our own fault, which is logged: the driver is told ERR."""
        if not request.completed and not request.written and request.writable_length:
            request.write(bytes([ctrl.ERR]))

    def _role(self, index: int) -> Role | None:
        """What a queue is, with the features accepted (virtio 1.4, 5.1.2)."""
        several = self._accepted & mask(spec.F_MQ, spec.F_RSS)
        control = 2 * self._pairs if several else 2
        if self._accepted & mask(spec.F_CTRL_VQ) and index >= control:
            return Role("control") if index == control else None
        if index >= 2 * self._pairs:
            return None
        return Role("transmit" if index % 2 else "receive", index // 2)

    def _in_use(self, index: int) -> bool:
        role = self._role(index)
        running = any(one.vrings[index].running for one in self.attachments)
        return running and role is not None and role.kind != "control"

    def _limits_changed(self, index: int) -> None:
        """Notifications of a queue wait for another time: its worker is to look again."""
        for attachment in self.attachments:
            attachment.vrings[index].kick()

    def _counters(self, index: int, role: Role) -> dict[str, int]:
        if role.kind == "control":
            return self.control.counters
        counters = dict(self.nic.stats()[role.kind][role.pair])
        for attachment in self.attachments:
            counters.update(attachment.vrings[index].stats())
        return counters

    # What the control queue brings about.

    def _commands(self) -> CommandTable:
        return {
            (ctrl.CTRL_ANNOUNCE, ctrl.CTRL_ANNOUNCE_ACK): command(self._acknowledged, spec.F_GUEST_ANNOUNCE)
        }

    def _acknowledged(self, data: bytes) -> None:
        exactly(data, 0)
        self.config.assign(status=self.config.status & ~spec.S_ANNOUNCE)

    def _address_set(self, mac: bytes) -> None:
        self.config.assign(mac=mac)

    def _carrier(self, up: bool) -> None:
        """The link's carrier or the administrator's cable changed."""
        up = up and self._up
        self.nic.set_link_up(up)
        status = self.config.status & ~spec.S_LINK_UP
        self.set_config(status=status | spec.S_LINK_UP if up else status)

    # The end.

    def close(self) -> None:
        """Let go of the link, and close it if it was opened here. UsageError while a driver is attached."""
        super().close()
        if self._closed:
            return
        self._closed = True
        self.link.on_carrier(None)
        self.nic.disconnect()
        if self._owns_link:
            self.link.close()

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *details: Any) -> None:
        self.close()


def _queues(pairs: int, size: int) -> tuple[Queue, ...]:
    """Receive and transmit queues in turn, then the control queue, which has another's place without MQ."""
    data = [
        Queue(f"{kind}q{pair}", size=size) for pair in range(1, pairs + 1) for kind in ("receive", "transmit")
    ]
    return (*data, Queue("controlq", size=size))
