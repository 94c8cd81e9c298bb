"""A NIC served by pyvirtio and by DPDK's vhost library, in turn, with DPDK's virtio driver as the guest.

Each run starts one device on core 0 and one driver (`dpdk-testpmd` with net_virtio_user) on core 1, both
busy. The devices take turns within each round; printed is the median of the rounds (the best where the driver
sends alone, as its speed jumps from run to run), and the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from backends import BACKEND_CPU, GENERATOR_CPU, running, socket_path
from processes import innermost
from tables import table
from virtio import serve
from virtio.devices.net import Net

OURS, PEER = "pyvirtio", "dpdk vhost"
EAL = ["--no-huge", "-m", "512", "--no-pci", "--no-telemetry"]
PATIENCE = 20.0  # seconds for an answer
SHOWN = re.compile(r"[RT]x-pps:\s+(\d+)")


@dataclass(frozen=True)
class Way:
    """A direction: our link, and what testpmd does as the driver and as the device."""

    link: str
    driver: str
    device: str
    begin: str = "start"
    sends: bool = False  # the driver does, alone


WAYS = {
    "host to guest": Way("flood:?size={size}&burst=32", "rxonly", "txonly"),
    "guest to host": Way("null:", "txonly", "rxonly", sends=True),
    "looped": Way("loop:", "io", "io", begin="start tx_first 16"),
}


def options(parser: argparse.ArgumentParser) -> None:
    """Say what may be chosen."""
    parser.add_argument("--quick", action="store_true", help="one short round: does it work?")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=0.8, help="how long each time (default 0.8)")
    parser.add_argument("--testpmd", metavar="COMMAND", default="dpdk-testpmd")
    parser.add_argument(
        "--features", default="mrg_rxbuf=1,in_order=1", help="of net_virtio_user (default %(default)s)"
    )
    parser.add_argument(
        "--real-time", action="store_true", help="both before all else on their cores, while it is measured"
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="workloads whose name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


class Testpmd:
    """A running testpmd that takes commands."""

    def __init__(self, program: str, vdev: str, core: int, mode: str, size: int) -> None:
        other = GENERATOR_CPU if core == BACKEND_CPU else BACKEND_CPU
        command = [
            *shlex.split(program), *EAL, "-l", f"{BACKEND_CPU},{GENERATOR_CPU}", "--main-lcore", str(other),
            f"--file-prefix=virtio-bench-{os.getpid()}-{core}", f"--vdev={vdev}", "--", "-i",
            f"--forward-mode={mode}", f"--txpkts={size}", "--port-topology=loop", "--no-flush-rx",
            "--total-num-mbufs=32768",
        ]  # fmt: skip
        ours, theirs = pty.openpty()  # into a pipe it would write what it has to say only at its end
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, preexec_fn=os.setsid
        )
        os.close(theirs)
        self.talk = ours
        self.rest = ""
        self.wait_for("testpmd> ")

    def wait_for(self, end: str) -> str:
        """What it prints up to ``end``. Raises RuntimeError with it if it ends before."""
        text, self.rest = self.rest, ""
        deadline = time.monotonic() + PATIENCE
        while end not in text:
            ready, _, _ = select.select([self.talk], [], [], max(0.0, deadline - time.monotonic()))
            try:
                more = os.read(self.talk, 4096) if ready else b""
            except OSError:  # what a terminal says when the other end is gone
                more = b""
            if not more:
                self.process.kill()
                raise RuntimeError(f"testpmd ended, or did not answer:\n{text}")
            text += more.decode(errors="replace").replace("\r", "")
        text, _, self.rest = text.partition(end)
        return text

    def do(self, command: str) -> str:
        """Carry out one command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        return self.wait_for("testpmd> ")

    def rate(self, seconds: float) -> float:
        """Frames each second, received or sent, whichever are more."""
        self.do("show port stats 0")
        time.sleep(seconds)
        return float(max(int(found) for found in SHOWN.findall(self.do("show port stats 0"))))

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"quit\n")
        self.process.stdin.close()
        try:
            self.wait_for("Bye...")
        except RuntimeError:
            self.process.kill()
        self.process.wait()
        os.close(self.talk)


@contextmanager
def real_time(*processes: int) -> Iterator[None]:
    """Let these processes' threads run before all others for the time of the block."""
    threads = [int(name) for process in processes for name in os.listdir(f"/proc/{process}/task")]
    for thread in threads:
        # The main threads, which take the commands, before those that are busy all the time.
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(2 if thread in processes else 1))
    try:
        yield
    finally:
        for thread in threads:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def device(name: str, arguments: argparse.Namespace, way: Way, size: int, socket: str) -> Iterator[int]:
    """One of the two devices, listening on ``socket``: its process."""
    if name == OURS:
        command = [sys.executable, __file__, "--serve", way.link.format(size=size), socket]
        with running(command, socket) as backend:
            yield backend.pid
        return
    peer = Testpmd(arguments.testpmd, f"net_vhost0,iface={socket},queues=1", BACKEND_CPU, way.device, size)
    try:
        peer.do("start")
        yield innermost(peer.process.pid)
    finally:
        peer.close()


def one_run(
    name: str, arguments: argparse.Namespace, way: Way, size: int, packed: bool, seconds: float
) -> float:
    """Start a device and a driver, and let them run. Frames each second."""
    with socket_path() as socket, device(name, arguments, way, size, socket) as served:
        vdev = f"net_virtio_user0,path={socket},queues=1,queue_size=1024,packed_vq={packed:d}"
        driver = Testpmd(arguments.testpmd, f"{vdev},{arguments.features}", GENERATOR_CPU, way.driver, size)
        try:
            driver.do(way.begin)
            time.sleep(0.1)
            hurried = (served, innermost(driver.process.pid)) if arguments.real_time else ()
            with real_time(*hurried):
                return driver.rate(seconds)
        finally:
            driver.close()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All chosen workloads: {workload: {device: frames each second}}."""
    rounds, seconds = (1, 0.3) if arguments.quick else (arguments.rounds, arguments.seconds)
    results: dict[str, Any] = {}
    for title, way in WAYS.items():
        for size in (64, 1500):
            for packed in (False, True):
                workload = f"{title} {size} B {'packed' if packed else 'split'}"
                if arguments.only not in workload:
                    continue
                print(f"{workload} ...", file=sys.stderr, flush=True)
                runs: dict[str, list[float]] = {OURS: [], PEER: []}
                for _ in range(rounds):
                    for name, each in runs.items():
                        each.append(one_run(name, arguments, way, size, packed, seconds))
                choose = max if way.sends else statistics.median
                results[workload] = {name: choose(each) for name, each in runs.items()}
    return results


def report(results: dict[str, Any]) -> str:
    """The table."""
    rows = [
        (workload, f"{by[OURS] / 1e6:.2f}", f"{by[PEER] / 1e6:.2f}", f"{by[OURS] / max(by[PEER], 1):.2f}")
        for workload, by in results.items()
    ]
    return table(("Mpps", OURS, PEER, "ratio"), rows)


def main() -> None:
    """Measure and print; or be the device that is measured."""
    if sys.argv[1:2] == ["--serve"]:
        serve(Net(sys.argv[2], queue_size=1024), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options(parser)
    arguments = parser.parse_args()
    results = measure(arguments)
    print(json.dumps(results, indent=2) if arguments.json else report(results))


if __name__ == "__main__":
    main()
