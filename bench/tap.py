"""A guest and its host across a tap: our NIC, and the hypervisor's own on a tap of the same kind, in turn.

Each side is a guest of its own, of the same kernel and with the same programs, booted once; they take turns
within each round, while the others are idle. iperf3 sends over one TCP connection, from the guest and to it.
Printed are the medians: bits per second, the processor seconds of all host processes at work (hypervisor,
back-end, iperf3) for each GiB, and how ours compares in the same round. Everything happens in a network
namespace of its own.

Before version 8 QEMU's own NIC is measured with MSI-X, as it comes, and without: a vhost-user NIC must do
without there, as the translator (TCG) crashes otherwise. The QEMU is the first in PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backends import VIRTIO, running, socket_path
from output import update_document
from processes import cpu_seconds, descendants
from tables import markdown_table, table
from virtio import vm
from virtio.errors import HostError
from virtio.vm import qemu
from virtio.vm.choice import Kind

INSIDE = "VIRTIO_BENCH_NAMESPACE"
GIB = 1 << 30
HEAD = ("", "NIC", "Mbit/s", "CPU s/GiB", "rate, ours to it", "cost, its to ours")
WAYS = {"guest to host": "", "host to guest": "-R"}


@dataclass(frozen=True)
class Side:
    """A NIC of a kind of guest: ours, or the hypervisor's."""

    name: str
    kind: Kind
    ours: bool = False
    properties: str = ""


SIDES = (
    Side("qemu, pyvirtio", "qemu", ours=True),
    Side("qemu, its own", "qemu"),
    Side("uml, pyvirtio", "uml", ours=True),
    Side("uml, its own", "uml"),
)
OLD_QEMU_SIDES = (
    Side("qemu, pyvirtio", "qemu", ours=True, properties=",vectors=0"),
    Side("qemu, its own", "qemu"),
    Side("qemu, its own, no MSI-X", "qemu", properties=",vectors=0"),
    *SIDES[2:],
)


@dataclass
class Stand:
    """A side that is up: its guest, the host processes that work for it, and what was measured."""

    side: Side
    guest: vm.Guest
    host: str
    processes: list[int]
    runs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def run(self, way: str, seconds: float, server: int) -> None:
        """Send for a while; keep bits per second, and processor seconds per GiB."""
        before = self._cpu(server)
        command = f"iperf3 -J -t {seconds:g} -c {self.host} {WAYS[way]}"
        said = json.loads(self.guest.run(command, check=True, timeout=seconds + 60).stdout)
        used = self._cpu(server) - before
        received = said["end"]["sum_received"]
        each = (received["bits_per_second"], used / max(received["bytes"], 1) * GIB)
        self.runs.setdefault(way, []).append(each)

    def _cpu(self, server: int) -> float:
        return sum(cpu_seconds(one) for pid in (*self.processes, server) for one in (pid, *descendants(pid)))


def all_sides() -> tuple[Side, ...]:
    """What there is to be measured with this QEMU."""
    told = subprocess.run([qemu.program(), "--version"], capture_output=True, text=True, check=True).stdout
    print(told.splitlines()[0], file=sys.stderr)
    found = re.search(r"version (\d+)", told)
    return OLD_QEMU_SIDES if found and int(found[1]) < 8 else SIDES


def ip(command: str) -> None:
    """Configure something of the namespace."""
    subprocess.run(["ip", *command.split()], check=True)


@contextmanager
def back_end(side: Side, tap: str, processes: list[int]) -> Iterator[str]:
    """What serves the NIC: for ours a process, whose socket is given."""
    if not side.ours:
        yield ""
        return
    with socket_path() as socket:
        command = [*VIRTIO, "net", "--link", f"tap:{tap}", "--socket-path", socket]
        with running(command, socket, cores=None) as backend:
            processes.append(backend.pid)
            yield socket


def guest_of(side: Side, tap: str, socket: str) -> vm.Guest:
    """The guest, not yet booted."""
    if side.kind == "uml":
        device = (
            f"virtio_uml.device={socket}:1"
            if side.ours
            else f"vec0:transport=tap,ifname={tap},depth=128,gro=1"
        )
        modules = ["failover", "net_failover", "virtio_net"] if side.ours else []
        return vm.Guest("uml", append=[device], modules=modules, files=["iperf3"])
    netdev = f"tap,id=n,ifname={tap},script=no,downscript=no"
    chardev = ["-chardev", f"socket,id=c,path={socket}"] if side.ours else []
    card = f"virtio-net-pci,netdev=n,romfile={side.properties}"
    return vm.Guest(
        "qemu",
        arguments=[
            *chardev,
            "-netdev",
            "vhost-user,id=n,chardev=c" if side.ours else netdev,
            "-device",
            card,
        ],
        modules=["virtio_pci", "virtio_net"],
        files=["iperf3"],
    )


@contextmanager
def stand(side: Side, number: int) -> Iterator[Stand]:
    """A booted guest at a tap of its own."""
    tap, network = f"t{number}", f"10.0.{number}"
    ip(f"tuntap add dev {tap} mode tap vnet_hdr")
    ip(f"addr add {network}.1/24 dev {tap}")
    ip(f"link set {tap} up")
    processes: list[int] = []
    with back_end(side, tap, processes) as socket, guest_of(side, tap, socket) as guest:
        name = guest.run("ls /sys/class/net | grep -v -e lo -e dummy -e sit | head -1").stdout.strip()
        guest.run(f"ip addr add {network}.2/24 dev {name} && ip link set {name} up", check=True)
        guest.run(f"ping -c 1 -W 5 {network}.1", check=True)
        assert guest.pid is not None
        yield Stand(side, guest, f"{network}.1", [*processes, guest.pid])


def measure(sides: list[Side], rounds: int, seconds: float) -> list[Stand]:
    """Boot all of them, and measure them in turn."""
    with ExitStack() as exits:
        ip("link set lo up")
        server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
        exits.callback(server.wait)
        exits.callback(server.terminate)
        stands = []
        for number, side in enumerate(sides):
            print(f"{side.name} ...", file=sys.stderr, flush=True)
            try:
                stands.append(exits.enter_context(stand(side, number)))
            except HostError as error:
                print(f"not measured: {error}", file=sys.stderr)
        for _ in range(rounds):
            for way in WAYS:
                for one in stands:
                    one.run(way, seconds, server.pid)
                    time.sleep(0.2)
    return stands


def summary(stands: list[Stand]) -> dict[str, dict[str, dict[str, float]]]:
    """Medians: {way: {side: {"bits_per_second", "cpu_seconds_per_gib", "rate_ratio", "cost_ratio"}}}.

    Ratios are those of our side in the same kind of guest to this one, round by round; more than 1 is better
    for pyvirtio.
    """
    ours = {one.side.kind: one for one in stands if one.side.ours}
    found: dict[str, dict[str, dict[str, float]]] = {way: {} for way in WAYS}
    for way, sides in found.items():
        for one in stands:
            runs = one.runs[way]
            pairs = list(zip(ours.get(one.side.kind, one).runs[way], runs, strict=True))
            sides[one.side.name] = {
                "bits_per_second": statistics.median(rate for rate, _ in runs),
                "cpu_seconds_per_gib": statistics.median(cost for _, cost in runs),
                "rate_ratio": statistics.median(own[0] / its[0] for own, its in pairs),
                "cost_ratio": statistics.median(its[1] / own[1] for own, its in pairs),
            }
    return found


def rows_of(results: dict[str, dict[str, dict[str, float]]]) -> list[tuple[str, ...]]:
    """Rows below HEAD."""
    return [
        (
            way,
            name,
            f"{found['bits_per_second'] / 1e6:.0f}",
            f"{found['cpu_seconds_per_gib']:.2f}",
            f"{found['rate_ratio']:.2f}",
            f"{found['cost_ratio']:.2f}",
        )
        for way, sides in results.items()
        for name, found in sides.items()
    ]


def main() -> None:
    """Measure and print, in a namespace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: does it work?")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="how long each time (default 3)")
    parser.add_argument("--only", metavar="TEXT", default="", help="sides whose name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="put the table between FILE's markers (tap)"
    )
    arguments = parser.parse_args()
    if missing := [name for name in ("iperf3", "ip", "unshare") if shutil.which(name) is None]:
        parser.exit(4, f"not installed: {', '.join(missing)}\n")
    if INSIDE not in os.environ:
        command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, *sys.argv]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    chosen = [side for side in all_sides() if arguments.only in side.name]
    results = summary(measure(chosen, rounds, seconds))
    rows = rows_of(results)
    print(json.dumps(results, indent=2) if arguments.json else table(HEAD, rows))
    if arguments.markdown:
        update_document(arguments.markdown, {"tap": markdown_table(HEAD, rows)})


if __name__ == "__main__":
    main()
