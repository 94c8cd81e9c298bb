"""The network device: what the driver sees of a NIC."""

from __future__ import annotations

from virtio.device import Device, Queue, Request
from virtio.device.config import ConfigSpace
from virtio.device.worker import QueueWorker
from virtio.devices.net.nic import Nic
from virtio.devices.net.receive import Receiver
from virtio.devices.net.transmit import Transmitter
from virtio.errors import UsageError
from virtio.network import Link, open_link
from virtio.spec import net as spec
from virtio.spec import net_control
from virtio.spec.features import mask
from virtio.virtqueue.queue import DeviceQueue

__all__ = ["Net"]

OFFERED = mask(
    spec.F_MAC,
    spec.F_STATUS,
    spec.F_MRG_RXBUF,
    spec.F_CSUM,
    spec.F_HOST_TSO4,
    spec.F_HOST_TSO6,
    spec.F_HOST_ECN,
    spec.F_HOST_UFO,
    spec.F_HOST_USO,
    spec.F_GUEST_CSUM,
    spec.F_GUEST_TSO4,
    spec.F_GUEST_TSO6,
    spec.F_GUEST_ECN,
    spec.F_GUEST_UFO,
    spec.F_GUEST_USO4,
    spec.F_GUEST_USO6,
)


class Net(Device):
    """A NIC for the guest, whose frames go to ``link``: a URL, or a Link that stays the caller's.

    ``mac`` is its address, ``pairs`` how many pairs of queues of ``queue_size`` descriptors it has. ``mtu``
    is the longest payload in bytes that the driver is told of. Raises UsageError for what cannot be, and what
    `open_link` raises.
    """

    device_id = spec.DEVICE.id

    def __init__(
        self,
        link: str | Link = "null:",
        *,
        mac: bytes = b"\x52\x54\x00\x12\x34\x56",
        mtu: int | None = None,
        pairs: int = 1,
        queue_size: int = 256,
    ) -> None:
        if len(mac) != 6 or mac[0] & 1:
            raise UsageError("a NIC's address is six bytes, and no multicast address")
        self._owns_link = not isinstance(link, Link)
        self.link = link if isinstance(link, Link) else open_link(link)
        self.pairs = pairs
        self.nic = Nic(self.link, pairs)
        self.features = OFFERED
        if mtu is not None:
            self.features |= mask(spec.F_MTU)
        if pairs > 1:
            self.features |= mask(spec.F_CTRL_VQ, spec.F_MQ)
        self.config = ConfigSpace(
            spec.Config,
            cut_off="speed",
            mac=list(mac),
            status=spec.S_LINK_UP,
            max_virtqueue_pairs=pairs,
            mtu=mtu or 0,
        )
        one = (Queue("receiveq", size=queue_size), Queue("transmitq", size=queue_size))
        self.queues = (*one * pairs, Queue("controlq", size=queue_size))
        self._multiqueue = False

    def on_ready(self, features: int) -> None:
        """Take over what was negotiated, and let frames in."""
        self._multiqueue = bool(features & mask(spec.F_MQ))
        self.nic.set_features(features)
        self.nic.connect()

    def on_reset(self) -> None:
        """Keep frames out until there is a driver again."""
        self.nic.disconnect()

    def make_worker(self, index: int, queue: DeviceQueue) -> QueueWorker:
        """The engine of a receive or transmit queue; the control queue is served in Python."""
        if index == (2 * self.pairs if self._multiqueue else 2):
            index = 2 * self.pairs
        if index == 2 * self.pairs:
            return super().make_worker(index, queue)
        worker = Transmitter if index % 2 else Receiver
        return worker(queue, self.nic, index // 2)

    def controlq(self, request: Request) -> None:
        """The one command that there is: how many pairs the driver uses."""
        command = bytes(request.readable)
        done = net_control.ERR
        if (
            command[:2] == bytes((net_control.CTRL_MQ, net_control.CTRL_MQ_VQ_PAIRS_SET))
            and len(command) == 4
        ):
            pairs = int.from_bytes(command[2:], "little")
            if 1 <= pairs <= self.pairs:
                self.nic.set_pairs(pairs)
                done = net_control.OK
        request.write(bytes((done,)))

    def close(self) -> None:
        """Let go of a link that was opened here. UsageError while a driver is attached."""
        super().close()
        if self._owns_link:
            self.link.close()

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()
