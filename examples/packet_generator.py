"""A packet generator: bursts of numbered datagrams of mixed sizes, and what came of them.

``python packet_generator.py SOCKET`` drives the NIC behind a vhost-user socket, anybody's. Without a socket
it drives one of our own that sends everything back, so that what comes can be checked.
"""

import sys
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Address

from virtio.devices.net import Net as NetDevice
from virtio.drivers import Net, NetLoadOptions, run_net_load
from virtio.network.packet import Datagram, parse_udp, udp_frame
from virtio.service import serving

SIZES = [64] * 7 + [594] * 4 + [1514]  # the classic mix of internet traffic, bytes
BURST = 60
SOURCE, TARGET = IPv4Address("198.18.0.1"), IPv4Address("198.18.0.2")  # for benchmarks (RFC 2544)


def burst(nic: Net, first: int) -> list[bytes]:
    """Frames to ourselves; each carries its number."""
    mac = bytes.fromhex(nic.mac.replace(":", ""))
    return [
        udp_frame(Datagram(mac, mac, SOURCE, TARGET, 9, 9, number.to_bytes(8, "big").ljust(size - 42, b"\0")))
        for number, size in enumerate((SIZES * (BURST // len(SIZES)))[:BURST], first)
    ]


def numbers(nic: Net, most: int) -> Iterator[int]:
    """The numbers of what comes back, of so many frames."""
    while most > 0 and (frames := nic.receive(most, timeout=0.5)):
        most -= len(frames)
        for frame in frames:
            if (datagram := parse_udp(bytes(frame))) is not None:
                yield int.from_bytes(datagram.data[:8], "big")


def generate(path: str) -> None:
    with Net.connect(path) as nic:
        print(f"{nic.mac}, MTU {nic.mtu or 1500}, link {'up' if nic.link_up else 'down'}")
        sent, came = 0, []
        for _ in range(50):
            sent += nic.send(burst(nic, sent))
            came += numbers(nic, BURST)
        print(f"{sent} datagrams sent, {len(came)} came back, in order: {came == sorted(came)}")

        load = run_net_load(nic, NetLoadOptions(send=True, frames=200_000, seconds=10))
        print(f"one frame over and over: {load.sent} sent, {load.sent_per_second / 1e6:.2f} million a second")


if len(sys.argv) > 1:
    generate(sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as at, NetDevice("loop:") as nic, serving(nic, f"{at}/nic.sock"):
        generate(f"{at}/nic.sock")
