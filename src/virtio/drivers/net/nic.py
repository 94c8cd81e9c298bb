"""The network device as a Python object: bursts of frames out, bursts of frames in."""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from socket import socket
from typing import Any, Self

from virtio.drivers.configuration import config_size, decode_config
from virtio.drivers.core import Driver
from virtio.drivers.net import commands
from virtio.drivers.net.commands import format_mac, parse_mac
from virtio.drivers.net.control import ControlQueue
from virtio.drivers.net.features import header_size, prune
from virtio.drivers.net.options import NetOptions
from virtio.drivers.net.pair import Pair
from virtio.drivers.net.receiver import Frame, Receiver
from virtio.drivers.net.requests import RequestChecker
from virtio.drivers.net.slots import memory_needed
from virtio.drivers.net.steering import Steering
from virtio.drivers.net.transmitter import Transmitter
from virtio.drivers.queue import LONGEST_SLEEP, again
from virtio.drivers.transport import Transport
from virtio.errors import UnsupportedRequestError, UsageError, VirtioError
from virtio.spec import features as bits
from virtio.spec import net

__all__ = ["Net"]

CONTROL_SIZE = 16  # commands go one at a time
BURST = 64  # frames taken at once, unless asked for otherwise
ETHERNET = 18  # bytes of a header with a VLAN tag
LAST_FRAMES = 1.0  # seconds that the device has for what was sent, when closing
RARP = bytes.fromhex("8035 0001 0800 06 04 0003".replace(" ", ""))

FrameLike = bytes | bytearray | memoryview | Frame | tuple[Any, net.Hdr]


class Net(Steering):
    """A network device.

    ::

        with Net.connect("/tmp/net.sock") as nic:
            nic.send([frame])
            for frame in nic.receive(timeout=1.0):
                print(bytes(frame))

    Frames begin with the destination address and have no checksum of their own (FCS). Any thread may send and
    receive, several at once. The calls raise DeviceGoneError, or DeviceError if the device breaks the
    specification.
    """

    device_id = net.DEVICE.id
    options: NetOptions

    def __init__(self, transport: Transport, options: NetOptions | None = None) -> None:
        options = options or NetOptions()
        if options.num_queues < 1 or options.buffer_size < 64:
            raise UsageError(
                f"{options.num_queues} pairs of queues with buffers of {options.buffer_size} bytes"
            )
        self.pairs: list[Pair] = []
        self.control: ControlQueue | None = None
        self.config: dict[str, Any] = {}
        self.essential = 0 if options.legacy else Driver.essential
        self._mac = _random_mac() if options.mac is None else parse_mac(options.mac)
        self._turn = 0
        super().__init__(transport, options)

    @classmethod
    def connect(
        cls,
        address: str | socket,
        *,
        num_queues: int = 1,
        queue_size: int = 256,
        buffer_size: int = 2048,
        packed: bool | None = None,
        without: int = 0,
        mac: str | bytes | None = None,
        legacy: bool = False,
        control_queue: bool | None = None,
        arena_size: int = 64 << 20,
        hugepages: bool = False,
        poll_us: float = 50,
        timeout: float | None = 30.0,
        on_link: Callable[[bool], None] | None = None,
    ) -> Self:
        """Drive the vhost-user device behind a unix socket: its path, or the connected socket itself.

        The arguments are `NetOptions`; ``num_queues`` counts pairs. HostError if nothing listens,
        ProtocolError if it is no vhost-user back-end, FeatureError if it lacks what is needed.
        """
        from virtio.drivers.vhost_user import VhostUserTransport

        options = NetOptions(
            num_queues=num_queues,
            queue_size=queue_size,
            buffer_size=buffer_size,
            packed=packed,
            without=without,
            mac=mac,
            legacy=legacy,
            control_queue=control_queue,
            arena_size=arena_size,
            hugepages=hugepages,
            poll_us=poll_us,
            timeout=timeout,
            on_link=on_link,
        )
        return cls(VhostUserTransport.connect(address, timeout=timeout, counts_pairs=True), options)

    # What the NIC is.

    @property
    def mac(self) -> str:
        """Its address: the device's, or the one chosen here where the device tells none."""
        return format_mac(self._mac)

    @property
    def mtu(self) -> int | None:
        """Bytes of payload that the device's network takes; None if it does not say."""
        return self.config.get("mtu")

    @property
    def link_up(self) -> bool:
        """Whether there is a carrier; True where the device does not say."""
        return bool(self.config.get("status", net.S_LINK_UP) & net.S_LINK_UP)

    @property
    def max_pairs(self) -> int | None:
        """Pairs of queues that the device has; None if it does not say."""
        if self.config:
            return int(self.config.get("max_virtqueue_pairs", 1))
        limit = self.transport.queue_limit()
        return None if limit is None else limit // 2

    # Frames.

    def send(self, frames: Sequence[FrameLike], timeout: float | None = None, *, pair: int = 0) -> int:
        """Give a burst of frames to the device, and return how many it has room for within ``timeout``.

        That is all of them, unless ``timeout`` (seconds; the driver's own if None) passes. A frame is a
        buffer of bytes, or a (buffer, header) where the device is to compute a checksum or cut segments; of
        a received `Frame` its header counts. All are copied. UsageError for a frame or header that cannot be,
        UnsupportedRequestError for work that the device does not offer.
        """
        limit = self.options.timeout if timeout is None else timeout
        return self._pair(pair).send(frames, limit, self._checker)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the device has taken all frames that were sent. DeviceTimeoutError if it does not."""
        for pair in self.pairs:
            pair.flush(self.options.timeout if timeout is None else timeout)

    def receive(
        self, limit: int = BURST, timeout: float | None = 0.0, *, pair: int | None = None
    ) -> list[Frame]:
        """Up to ``limit`` frames that have come, of any pair unless one is named.

        Waits up to ``timeout`` seconds for the first; None waits for ever, 0 not at all. None come: [].
        """
        if pair is not None or len(self.pairs) == 1:
            return self._pair(pair or 0).receive(limit, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if frames := self._look(limit):
                return frames
            left = LONGEST_SLEEP if deadline is None else min(deadline - time.monotonic(), LONGEST_SLEEP)
            if left <= 0:
                return []
            self._sleep(left)

    def _look(self, limit: int) -> list[Frame]:
        """Frames of all pairs, each first in turn."""
        frames: list[Frame] = []
        self._turn += 1
        count = len(self.pairs)
        for step in range(count):
            if len(frames) < limit:
                frames += self._pair((self._turn + step) % count).receive(limit - len(frames), 0)
        return frames

    def _sleep(self, seconds: float) -> None:
        """Until any pair's bell rings."""
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        ready = False
        for pair in self.pairs:
            ready |= pair.arm()
            poller.register(pair.receiver.channel.call_fd, select.POLLIN)
        if not ready:
            poller.poll(seconds * 1000)

    async def frames(self, limit: int = BURST) -> AsyncIterator[Frame]:
        """The frames of all pairs as they come, on the running loop, until the device is gone or closed.

        One such iteration at a time, and no `receive` beside it.
        """
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        bells = [(pair, pair.receiver.channel.call_fd) for pair in self.pairs]
        for pair, fd in bells:
            loop.add_reader(fd, rung.set)
            pair.receive_queue.listen(lambda: loop.call_soon_threadsafe(rung.set))
        try:
            while True:
                rung.clear()
                for frame in self._look(limit):
                    yield frame
                found = [pair.arm() for pair in self.pairs]
                if not any(found):
                    await rung.wait()
        finally:
            for pair, fd in bells:
                loop.remove_reader(fd)
                pair.receive_queue.listen(None)

    def _pair(self, index: int) -> Pair:
        if not self.pairs:
            raise again(self._failure or UsageError("the device is being brought up"))
        if not 0 <= index < len(self.pairs):
            raise UsageError(f"there is no pair {index} among {len(self.pairs)}")
        return self.pairs[index]

    # Control.

    def set_pairs(self, count: int) -> None:
        """Use so many of the pairs that were connected with; by command or, without one, by the front-end."""
        if not 1 <= count <= len(self.pairs):
            raise UsageError(f"{count} of {len(self.pairs)} pairs")
        if self.control is not None:
            self.run_command(commands.pairs(count), net.F_MQ)
            return
        for index in range(2 * len(self.pairs)):
            self.transport.enable_queue(index, enabled=index < 2 * count)

    def announce(self) -> None:
        """Tell the network where this address is, with a reverse ARP to everybody."""
        address = b"\0\0\0\0"
        body = RARP[2:] + self._mac + address + self._mac + address
        self.send([(b"\xff" * 6 + self._mac + RARP[:2] + body).ljust(60, b"\0")])

    def stats(self) -> dict[str, int]:
        """What was counted here: frames and bytes each way, frames copied, notifications and sleeps."""
        totals = dict.fromkeys(
            ("received", "received_bytes", "received_copied", "sent", "sent_bytes", "kicks", "sleeps"), 0
        )
        for pair in self.pairs:
            receiver, transmitter = pair.receiver, pair.transmitter
            totals["received"] += receiver.frames
            totals["received_bytes"] += receiver.total_bytes
            totals["received_copied"] += receiver.copied
            totals["sent"] += transmitter.frames
            totals["sent_bytes"] += transmitter.total_bytes
            for channel in (receiver.channel, transmitter.channel):
                totals["kicks"] += channel.kicks
                totals["sleeps"] += channel.sleeps
        return totals

    # Life.

    def negotiate(self, offered: int) -> int:
        """What is offered and of use; see `NetOptions`."""
        options = self.options
        if options.legacy:
            offered &= ~bits.mask(bits.VERSION_1, bits.RING_PACKED)
        readable = self._can_read_config()
        served = options.control_queue
        self.wanted = prune(
            offered & ~options.without,
            configuration=readable,
            control_queue=readable if served is None else served,
            buffer_size=options.buffer_size,
        )
        accepted = super().negotiate(offered)
        if options.num_queues > 1 and not accepted >> net.F_MQ & 1:
            raise UsageError(f"{options.num_queues} pairs of queues on a device that has one")
        return accepted

    def check_features(self, accepted: int, offered: int) -> None:
        """MQ needs no control queue where the front-end switches pairs."""
        if not accepted >> net.F_CTRL_VQ & 1:
            accepted &= ~bits.mask(net.F_MQ)
        super().check_features(accepted, offered)

    def _can_read_config(self) -> bool:
        try:
            return bool(self.transport.read_config(0, 1))
        except (UnsupportedRequestError, VirtioError):
            return False

    def queue_count(self) -> int:
        """Two a pair; the control queue is set up apart, as it lies behind pairs that are not used."""
        self.read_configuration()
        most = self.max_pairs
        if most is not None and self.options.num_queues > most:
            raise UsageError(f"{self.options.num_queues} pairs of queues wanted, the device has {most}")
        return 2 * self.options.num_queues

    def set_up_queues(self, count: int) -> None:
        """The pairs with their buffers, and the control queue."""
        super().set_up_queues(count)
        self.pairs = [self._make_pair(index) for index in range(count // 2)]
        self._checker = RequestChecker(self.features, header_size(self.features))
        self.control = None
        if self.has(net.F_CTRL_VQ):
            behind = self.max_pairs if self.has(net.F_MQ) or self.has(net.F_RSS) else 1
            self.queues.append(self._set_up_queue(2 * (behind or 1), CONTROL_SIZE))
            self.control = ControlQueue(self.queues[-1], self.arena)

    def _make_pair(self, index: int) -> Pair:
        receive, transmit = self.queues[2 * index : 2 * index + 2]
        size, header = self.options.buffer_size, header_size(self.features)
        mergeable = self.has(net.F_MRG_RXBUF)
        whole = size if mergeable else max(size, (self.mtu or 0) + ETHERNET + header)
        receiver = Receiver(
            receive.channel,
            self.arena.allocate(memory_needed(receive.size, whole)),
            slot_size=whole,
            header_size=header,
            mergeable=mergeable,
            pair=index,
        )
        transmitter = Transmitter(
            transmit.channel,
            self.arena.allocate(memory_needed(transmit.size, size)),
            slot_size=size,
            header_size=header,
        )
        return Pair(receive, transmit, receiver, transmitter)

    def _bring_up(self) -> None:
        super()._bring_up()
        if self.control is not None and self.has(net.F_MQ):
            self.set_pairs(len(self.pairs))
        for pair in self.pairs:
            pair.receiver.fill()

    def read_configuration(self) -> None:
        """Take over the configuration where there is one."""
        size = config_size(net.DEVICE, self.features)
        if not size or not self._can_read_config():
            return
        before = self.link_up
        known = bool(self.config)
        self.config = decode_config(net.DEVICE, self.features, self.read_config(0, size))
        if "mac" in self.config and not known:
            self._mac = self.read_config(0, 6)
        if known and before != self.link_up and self.options.on_link is not None:
            self.options.on_link(self.link_up)

    def config_changed(self) -> None:
        """The link changed, or the device asks to be announced."""
        super().config_changed()
        if self.has(net.F_GUEST_ANNOUNCE) and self.config.get("status", 0) & net.S_ANNOUNCE:
            self.announce()
            self.run_command(commands.announced(), net.F_GUEST_ANNOUNCE)

    def free_queues(self) -> None:
        """The buffers too; those that frames still show are freed with the frames."""
        for pair in self.pairs:
            pair.close()
        self.pairs = []
        self.control = None
        super().free_queues()

    def close(self) -> None:
        """Let the device take what was sent (for a second at most), reset it and let go of it."""
        if not self._closed and self._failure is None:
            with suppress(VirtioError):
                self.flush(LAST_FRAMES)
        super().close()


def _random_mac() -> bytes:
    """Locally administered (IEEE 802)."""
    return b"\x52\x54\x00" + os.urandom(3)
