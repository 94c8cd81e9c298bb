"""Puts load on a network device and measures it: a thread for each pair of queues, without the GIL."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from virtio.drivers.net.nic import Net
from virtio.drivers.net.pair import Pair
from virtio.drivers.netload import NetLoad
from virtio.drivers.queue import again
from virtio.errors import DeviceTimeoutError, UsageError, VirtioError

__all__ = ["NetLoadOptions", "NetLoadResult", "run_net_load", "sample_frame"]

SLICE_NS = 50_000_000  # how often a generator looks up for signals and failures
PACE_NS = 1_000_000  # how often one with a rate sends what is due
UNLIMITED = (1 << 63) - 1
SHORTEST = 60  # bytes of an Ethernet frame without its checksum
HEADERS = 42  # bytes of Ethernet, IPv4 and UDP


@dataclass(frozen=True, slots=True, kw_only=True)
class NetLoadOptions:
    """What to do on each pair of queues.

    ``send``: frames of ``size`` bytes as fast as they are taken, or ``frame`` if given; ``frames`` of them at
    most, on all pairs together. ``stamp`` writes a growing number into each. ``receive`` counts and drops
    what comes; ``echo`` sends it back, with ``swap_addresses`` after exchanging its Ethernet addresses, and
    begins with ``inject`` frames of its own. It ends after ``seconds``. ``polling`` spins; else the generator
    sleeps on its bell. ``rate``: frames sent in a second at the most, on all pairs together; they go out in a
    burst each millisecond.
    """

    send: bool = False
    receive: bool = False
    echo: bool = False
    size: int = 64
    frame: bytes | None = None
    frames: int | None = None
    inject: int = 0
    stamp: bool = False
    swap_addresses: bool = False
    seconds: float = 5.0
    polling: bool = False
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class NetLoadResult:
    """What came of it. ``dropped``: received and not echoed, for want of room or spread over buffers."""

    seconds: float
    sent: int
    received: int
    received_bytes: int
    dropped: int
    cpu_seconds: float
    kicks: int
    sleeps: int

    @property
    def sent_per_second(self) -> float:
        """Frames."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def received_per_second(self) -> float:
        """Frames."""
        return self.received / self.seconds if self.seconds else 0.0

    @property
    def cpu_ns_per_frame(self) -> float:
        """Processor time of this side."""
        frames = self.sent + self.received
        return self.cpu_seconds * 1e9 / frames if frames else 0.0


def sample_frame(size: int, source: bytes, destination: bytes = b"\xff" * 6) -> bytes:
    """An IPv4 UDP datagram to port 9 (discard) in a frame of ``size`` bytes, 60 at least."""
    if not SHORTEST <= size <= 65535:
        raise UsageError(f"frames of {size} bytes: {SHORTEST} to 65535 can be made")
    length = size - 14
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, 17, 0, b"\xc6\x12\x00\x01", b"\xc6\x12\x00\x02"
    )
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    udp = struct.pack(">HHHH", 9, 9, length - 20, 0)
    return (destination + source + b"\x08\x00" + head + udp).ljust(size, b"\0")


def run_net_load(nic: Net, options: NetLoadOptions, stop: threading.Event | None = None) -> NetLoadResult:
    """Drive all of the NIC's pairs at once; nothing else may use it meanwhile. It ends when ``stop`` is set.

    UsageError for what cannot be done, and what the driver raises if the device fails.
    """
    if not (options.send or options.receive or options.echo):
        raise UsageError("nothing to do: send, receive or echo")
    if options.echo and options.send:
        raise UsageError("frames are either made or echoed")
    if options.rate is not None and options.rate <= 0:
        raise UsageError(f"a rate of {options.rate:g} frames a second")
    with ExitStack() as stack:
        stop = stop or threading.Event()
        generators = [
            _Generator(nic, pair, options, index, stack, stop) for index, pair in enumerate(nic.pairs)
        ]
        began = time.monotonic()
        _run_all(generators)
        elapsed = time.monotonic() - began
    for generator in generators:
        if generator.error is not None:
            error = generator.error
            raise again(error) if isinstance(error, VirtioError) else error
    return _sum_up(generators, elapsed)


class _Generator:
    """One pair's share of the load."""

    def __init__(
        self,
        nic: Net,
        pair: Pair,
        options: NetLoadOptions,
        index: int,
        stack: ExitStack,
        stop: threading.Event,
    ) -> None:
        for lock in (pair.receive_lock, pair.transmit_lock):
            stack.enter_context(lock)
        for queue in (pair.receive_queue, pair.transmit_queue):
            stack.enter_context(queue.exclusive())
        self.pair = pair
        self.error: BaseException | None = None
        self.stop = stop
        self._seconds = options.seconds
        self._timeout = nic.options.timeout or 30.0
        self._channels = (pair.receiver.channel, pair.transmitter.channel)
        self._before = self._counts()
        makes = options.send or options.inject
        frame = options.frame or sample_frame(options.size, bytes.fromhex(nic.mac.replace(":", "")))
        if makes and len(frame) > pair.transmitter.slot_size - pair.transmitter.header_size:
            raise UsageError(
                f"frames of {len(frame)} bytes in buffers of {pair.transmitter.slot_size}",
                fix="connect with a larger buffer_size",
            )
        pair.transmitter.poll()
        self.load = NetLoad(
            pair.receiver,
            pair.transmitter,
            frame if makes else None,
            receiving=options.receive,
            echoing=options.echo,
            swapping=options.swap_addresses,
            stamping=options.stamp,
            polling=options.polling,
        )
        if makes:
            wanted = options.frames if options.send else options.inject
            count = len(nic.pairs)
            share = UNLIMITED if wanted is None else wanted * (index + 1) // count - wanted * index // count
            self.load.allow(share)
        self._share = self.load.left
        self._until_sent = options.send and options.frames is not None and not options.receive
        self._rate = options.rate / len(nic.pairs) if options.rate is not None and options.send else None

    def _counts(self) -> tuple[int, int]:
        return sum(c.kicks for c in self._channels), sum(c.sleeps for c in self._channels)

    @property
    def kicks(self) -> int:
        """Notifications sent."""
        return self._counts()[0] - self._before[0]

    @property
    def sleeps(self) -> int:
        """Times the generator slept."""
        return self._counts()[1] - self._before[1]

    def run(self) -> None:
        """The thread's whole life; what goes wrong is kept in ``error``."""
        try:
            self._work()
            self._finish()
        except BaseException as error:
            self.error = error

    def _work(self) -> None:
        deadline = time.monotonic_ns() + int(self._seconds * 1e9)
        began = time.monotonic_ns()
        while not self.stop.is_set() and not (self._until_sent and self.load.sent >= self._share):
            now = time.monotonic_ns()
            left = min(SLICE_NS if self._rate is None else PACE_NS, deadline - now)
            if left <= 0:
                return
            if self._rate is not None:
                self._pace(self._rate * (now - began) / 1e9)
            self._slice(left)
            if self._rate is not None and not self.load.left:
                time.sleep(max(now + left - time.monotonic_ns(), 0) / 1e9)

    def _pace(self, due: float) -> None:
        """Allow what is due by now."""
        self.load.allow(max(min(int(due) + 1, self._share) - self.load.sent, 0))

    def _finish(self) -> None:
        """Wait until the device has taken what was sent, as long as it takes something."""
        self.load.allow(0)
        self.load.stop()
        patience = time.monotonic() + self._timeout
        while before := self.load.outstanding:
            self._slice(SLICE_NS // 50)
            if self.load.outstanding < before:
                patience = time.monotonic() + self._timeout
            elif time.monotonic() > patience:
                error = DeviceTimeoutError(f"{before} frames are not taken")
                self.pair.transmit_queue.fail(error)
                raise again(error)

    def _slice(self, nanoseconds: int) -> None:
        fine = self.load.run(nanoseconds)
        for queue in (self.pair.receive_queue, self.pair.transmit_queue):
            if queue.failure is not None:
                raise again(queue.failure)
        if not fine:
            transmit = self.pair.transmit_queue
            broken = transmit if transmit.channel.fault else self.pair.receive_queue
            error = transmit.ring_error() if transmit.channel.fault else self.pair.receiver.error()
            broken.fail(error)
            raise again(error)


def _run_all(generators: Sequence[_Generator]) -> None:
    """The first in this thread, so that ^C reaches it; the others in threads of their own."""
    threads = [threading.Thread(target=generator.run, name="virtio-net-load") for generator in generators[1:]]
    for thread in threads:
        thread.start()
    generators[0].run()
    if generators[0].error is not None:
        generators[0].stop.set()
    for thread in threads:
        thread.join()


def _sum_up(generators: Sequence[_Generator], elapsed: float) -> NetLoadResult:
    loads = [generator.load for generator in generators]
    return NetLoadResult(
        seconds=elapsed,
        sent=sum(load.sent for load in loads),
        received=sum(load.received for load in loads),
        received_bytes=sum(load.received_bytes for load in loads),
        dropped=sum(load.dropped for load in loads),
        cpu_seconds=sum(load.cpu_ns for load in loads) / 1e9,
        kicks=sum(generator.kicks for generator in generators),
        sleeps=sum(generator.sleeps for generator in generators),
    )
