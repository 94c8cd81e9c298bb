"""Two User-Mode Linux guests with NICs of ours, and what one asks them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from virtio import vm
from virtio.devices.net import Net
from virtio.vhost_user.server import Server
from virtio.vm import programs

MODULES = ("8021q", "af_packet")
LOSSES = ("runt", "giant", "header", "offload", "down", "full")


@dataclass(frozen=True)
class Machine:
    """A guest; ``nics[0]`` is its eth0, and so on."""

    guest: vm.Guest
    nics: tuple[Net, ...] = ()

    def sh(self, command: str, timeout: float = 60.0) -> str:
        """What a shell command says, which must succeed."""
        return self.guest.run(command, check=True, timeout=timeout).stdout.strip()

    def up(self, interface: str, address: str) -> None:
        """Give an interface one IPv4 address with its mask, and bring it up."""
        self.sh(f"ip addr flush dev {interface} && ip addr add {address} dev {interface}")
        self.sh(f"ip link set {interface} up")

    def add_vlan(self, interface: str, vlan: int, address: str) -> None:
        """Make an interface for the frames of a VLAN."""
        name = f"{interface}.{vlan}"
        self.sh(f"ip link add link {interface} name {name} type vlan id {vlan}")
        self.up(name, address)

    def ping(self, address: str, *options: str, wait: int = 20) -> str:
        """Ping three times; all must be answered."""
        said = self.sh(f"ping -c 3 -i 0.1 -W {wait} {' '.join(options)} {address}")
        assert "3 packets received" in said
        return said

    def hears(self, address: str, interface: str) -> bool:
        """Whether anybody answers for an address, within two seconds of asking by ARP."""
        return self.guest.run(f"arping -c 2 -f -w 2 -I {interface} {address}").status == 0

    def read(self, interface: str, name: str) -> str:
        """A file of /sys/class/net/INTERFACE."""
        return self.sh(f"cat /sys/class/net/{interface}/{name}")

    def iperf(self, *options: str) -> dict[str, Any]:
        """What an iperf3 client found out."""
        found: dict[str, Any] = json.loads(self.sh(f"iperf3 --json {' '.join(options)}"))
        return found

    def offloads(self, interface: str) -> dict[str, str]:
        """What ``ethtool -k`` says, by name."""
        lines = self.sh(f"ethtool -k {interface}").splitlines()[1:]
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def until(what: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def lost(*nics: Net) -> dict[str, int]:
    """Frames that NICs, or their ports at a switch, dropped, by reason; without those that are 0."""
    found: dict[str, int] = {}
    for nic in nics:
        counted = nic.nic.stats()
        for queue in (*counted["receive"], *counted["transmit"]):
            found |= {reason: found.get(reason, 0) + queue[reason] for reason in LOSSES}
        ports = {name: n for name, n in nic.link.stats().items() if name.startswith("dropped_")}
        found |= {name: found.get(name, 0) + n for name, n in ports.items()}
    return {reason: number for reason, number in found.items() if number}


@contextmanager
def two_machines(
    directory: Path, one: Sequence[str], other: Sequence[str], *, files: Sequence[str] = (), **options: Any
) -> Iterator[tuple[Machine, Machine]]:
    """Boot two guests, each with a NIC on each of its links; ``options`` are those of Net."""
    need("linux.uml", *files)
    with ExitStack() as stack:
        nics = [
            [
                stack.enter_context(Net(url, mac=f"52:54:00:00:0{guest}:0{nic}", **options))
                for nic, url in enumerate(urls)
            ]
            for guest, urls in enumerate((one, other), start=1)
        ]
        server = stack.enter_context(Server())
        sockets = [[str(directory / f"g{g}n{n}") for n in range(len(of))] for g, of in enumerate(nics)]
        for devices, paths in zip(nics, sockets, strict=True):
            for nic, path in zip(devices, paths, strict=True):
                server.add(nic, path)
        server.start()
        first, second = (
            Machine(stack.enter_context(boot(paths, files)), tuple(devices))
            for devices, paths in zip(nics, sockets, strict=True)
        )
        yield first, second


def boot(sockets: Sequence[str], files: Sequence[str] = ()) -> vm.Guest:
    """A guest with a NIC at each socket, for a ``with`` statement."""
    return vm.Guest("uml", [vm.Net(path) for path in sockets], files=files, modules=MODULES)


def need(*names: str) -> None:
    """Skip the test where a program is not installed."""
    for name in names:
        if programs.locate(name) is None:
            pytest.skip(f"{name} is not installed")
