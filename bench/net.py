"""A NIC's device and its driver, pyvirtio's and DPDK's, and a switch between two.

One device runs on one core and one driver on another, both busy. Measured are, by turns within each round,
DPDK's net_vhost with its net_virtio_user, pyvirtio's device (`virtio net`) with net_virtio_user, and
net_vhost with pyvirtio's driver (`virtio.drivers.run_net_load`). What is printed are the medians of the
rounds and of the ratios within a round to DPDK with itself: the machine is not the same throughout. Where the
driver sends alone, its speed jumps from run to run: there it is the best of each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from backends import BACKEND_CORES, GENERATOR_CORES, HERE, VIRTIO, running, socket_path
from options import Plan, add_options, plan_of
from output import write_all
from processes import innermost, real_time
from testpmd import PROGRAM, VARIABLE, Testpmd, command_line

DPDK, DEVICE, DRIVER, SWITCH = "dpdk", "device", "driver", "switch"
SIZES = (64, 1500)
FEATURES = "mrg_rxbuf=1,in_order=1"  # of net_virtio_user
RING = 1024
IN_FLIGHT = 512  # frames that are looped
WARM = 0.1  # seconds


@dataclass(frozen=True)
class Way:
    """A direction: our link, what our driver does, and what testpmd does as the driver and as the device."""

    name: str
    link: str
    load: dict[str, Any]
    driver: str
    device: str
    begin: str = "start"
    sends: bool = False  # the driver does, alone


WAYS = (
    Way("host to guest", "flood:?size={size}&burst=32", {"receive": True}, "rxonly", "txonly"),
    Way("guest to host", "null:", {"send": True}, "txonly", "rxonly", sends=True),
    Way(
        "looped", "loop:", {"echo": True, "inject": IN_FLIGHT}, "io", "io",
        begin=f"start tx_first {IN_FLIGHT // 32}",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """One line of the table."""

    way: Way
    size: int
    packed: bool

    @property
    def name(self) -> str:
        """What ``--only`` looks at."""
        return f"{self.way.name} {self.size} B {'packed' if self.packed else 'split'}"


WORKLOADS = tuple(Workload(way, size, packed) for way in WAYS for size in SIZES for packed in (False, True))


@dataclass
class Bench:
    """One measurement of all that was chosen."""

    plan: Plan
    program: Sequence[str]

    def measure(self) -> dict[str, Any]:
        """{"workloads": {name: frames a second of each side}, "switch": ..., "idle": percent of a core}."""
        found: dict[str, Any] = {"workloads": {}, "switch": {}}
        for each in WORKLOADS:
            if self.plan.takes(each.name):
                runs = self._rounds(
                    each.name, (DPDK, DEVICE, DRIVER), lambda side, one=each: self.run(side, one)
                )
                found["workloads"][each.name] = chosen(runs, best=each.way.sends)
        for size in SIZES:
            name = f"switch {size} B"
            if self.plan.takes(name):
                runs = self._rounds(name, (DPDK, SWITCH), lambda side, bytes=size: self.forward(side, bytes))
                found["switch"][name] = chosen(runs, best=False)
        if self.plan.takes("idle"):
            found["idle"] = self.idle()
        return found

    def _rounds(self, name: str, sides: Sequence[str], run: Any) -> dict[str, list[float]]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        runs: dict[str, list[float]] = {side: [] for side in sides}
        for round in range(self.plan.rounds):
            # Each begins a round in its turn: one that ends, and gives back its memory, slows the next.
            for turn in range(len(sides)):
                side = sides[(round + turn) % len(sides)]
                runs[side].append(run(side))
        return runs

    def run(self, side: str, workload: Workload) -> float:
        """Start a device and a driver and let them run: frames each second, at the driver."""
        with socket_path() as socket, self._device(side, workload, socket) as device:
            if side == DRIVER:
                return self._our_driver(workload, socket, device)
            return self._their_driver(workload, socket, device)

    @contextmanager
    def _device(self, side: str, workload: Workload, socket: str) -> Iterator[int]:
        """The device that listens on ``socket``: its process."""
        if side == DEVICE:
            command = virtio_net(workload.way.link.format(size=workload.size), socket)
            with running(command, socket) as backend:
                yield backend.pid
            return
        vdev = f"net_vhost0,iface={socket},queues=1"
        with self._testpmd([vdev], BACKEND_CORES[0], workload.way.device, workload.size) as peer:
            peer.do("start")
            yield innermost(peer.process.pid)

    def _their_driver(self, workload: Workload, socket: str, device: int) -> float:
        vdev = f"{virtio_user(0, socket)},packed_vq={workload.packed:d}"
        with self._testpmd([vdev], GENERATOR_CORES[0], workload.way.driver, workload.size) as driver:
            driver.do(workload.way.begin)
            time.sleep(WARM)
            with self._hurried(device, innermost(driver.process.pid)):
                return float(max(driver.rates(self.plan.seconds)))

    def _our_driver(self, workload: Workload, socket: str, device: int) -> float:
        load = {"size": workload.size, "seconds": self.plan.seconds, **workload.way.load}
        settings = {
            "cpus": [GENERATOR_CORES[0]], "load": load, "connect": {"packed": workload.packed}, "warm": WARM,
            "pids": [device] if self.plan.real_time else [],
        }  # fmt: skip
        figures = frames(socket, settings)
        return figures["sent" if workload.way.sends else "received"]

    def forward(self, side: str, size: int) -> float:
        """Frames each second through a switch with two ports on one core: both ways together."""
        with socket_path() as socket, self._switch(side, size, [f"{socket}-{n}" for n in range(2)]) as device:
            vdevs = [virtio_user(n, f"{socket}-{n}") for n in range(2)]
            with self._testpmd(vdevs, GENERATOR_CORES[0], "io", size, paired=True) as driver:
                driver.do(WAYS[-1].begin)
                time.sleep(WARM)
                with self._hurried(*device, innermost(driver.process.pid)):
                    return float(sum(driver.rates(self.plan.seconds, port)[0] for port in range(2)))

    @contextmanager
    def _switch(self, side: str, size: int, sockets: Sequence[str]) -> Iterator[list[int]]:
        if side == SWITCH:
            command = [sys.executable, str(HERE / "switched.py"), *sockets]
            with running(command, sockets[-1]) as backend:
                yield [backend.pid]
            return
        vdevs = [f"net_vhost{n},iface={socket},queues=1" for n, socket in enumerate(sockets)]
        with self._testpmd(vdevs, BACKEND_CORES[0], "io", size, paired=True) as peer:
            peer.do("start")
            yield [innermost(peer.process.pid)]

    def idle(self) -> dict[str, float]:
        """Percent of a core that our device and our driver use when nothing happens; DPDK's two spin."""
        with socket_path() as socket, running(virtio_net("loop:", socket), socket) as backend:
            load = {"echo": True, "inject": IN_FLIGHT, "seconds": WARM}
            settings = {"load": load, "idle": self.plan.seconds * 2, "pids": [backend.pid]}
            return frames(socket, settings)

    def _hurried(self, *pids: int) -> Any:
        return real_time(os.getpid(), *pids) if self.plan.real_time else nullcontext()

    def _testpmd(
        self, vdevs: Sequence[str], core: int, mode: str, size: int, *, paired: bool = False
    ) -> Testpmd:
        other = GENERATOR_CORES[0] if core == BACKEND_CORES[0] else BACKEND_CORES[0]
        return Testpmd(
            self.program,
            vdevs,
            mode=mode,
            core=core,
            main_core=other,
            size=size,
            descriptors=RING,
            paired=paired,
        )


def virtio_user(number: int, socket: str) -> str:
    """A port that drives the device behind ``socket``."""
    return f"net_virtio_user{number},path={socket},queues=1,queue_size={RING},{FEATURES}"


def virtio_net(link: str, socket: str) -> list[str]:
    """The command line of our device."""
    return [*VIRTIO, "net", link, "--queue-size", str(RING), "--socket-path", socket]


def frames(socket: str, settings: dict[str, Any]) -> dict[str, float]:
    """Our driver, in a process of its own. See frames.py."""
    command = [sys.executable, str(HERE / "frames.py"), socket, json.dumps(settings)]
    result: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return result


def chosen(runs: dict[str, list[float]], *, best: bool) -> dict[str, Any]:
    """The rates of all sides, the ratios to DPDK's, by round or (``best``) of the best rounds, and these."""
    choose = max if best else statistics.median
    of_best = {side: ratio([max(each)], [max(runs[DPDK])]) for side, each in runs.items()}
    return {
        "rates": {side: choose(each) for side, each in runs.items()},
        "ratios": of_best if best else {side: ratio(each, runs[DPDK]) for side, each in runs.items()},
        "best": of_best,
        "runs": runs,
    }


def ratio(own: Sequence[float], peer: Sequence[float]) -> float | None:
    """The median of the ratios within a round; None if the peer moved nothing in any."""
    found = [one / other for one, other in zip(own, peer, strict=True) if other]
    return statistics.median(found) if found else None


def measure(plan: Plan) -> dict[str, Any]:
    """All chosen workloads. SystemExit where there is no DPDK."""
    program = command_line(plan.testpmd)
    if program is None:
        raise SystemExit(f"{PROGRAM} is not installed, and {VARIABLE} does not say how to start it")
    return Bench(plan, program).measure()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_options(parser)
    arguments = parser.parse_args()
    write_all({"net": measure(plan_of(arguments))}, arguments)


if __name__ == "__main__":
    main()
