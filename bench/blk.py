"""A disk served by pyvirtio and by qemu-storage-daemon, in turn, under the same load.

Each run starts one back-end on its cores and one generator on others. The two sides of a workload take turns
within each round; what is printed is the median of the rounds, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import limits
import peers
from backends import CORES, command_of, running, socket_path
from disks import Disks
from options import Plan, add_options, plan_of
from output import write_all
from tables import medians
from workloads import PEER, Side, Workload, workloads


@dataclass
class Bench:
    """One measurement of all that was chosen."""

    plan: Plan
    disks: Disks
    program: str | None

    def measure(self) -> dict[str, Any]:
        """{"workloads": {name: ...}, "limits": {name: rate}, "hot files": how they were kept so}."""
        chosen = [each for each in workloads(len(CORES)) if self.plan.takes(each.name)]
        wanted = None if not self.plan.only else {each.limit for each in chosen}
        found = limits.measure(
            self.plan.folder, self.disks.path, wanted, self.plan.limit_rounds, self.plan.limit_seconds
        )
        results = {each.name: self._workload(each, found) for each in chosen}
        return {"workloads": results, "limits": found, "hot files": self.disks.state}

    def _workload(self, workload: Workload, found: dict[str, float]) -> dict[str, Any]:
        print(f"{workload.name} ...", file=sys.stderr, flush=True)
        sides = list(self._sides(workload))
        runs: dict[str, list[dict[str, float]]] = {side.label: [] for side in sides}
        for _ in range(self.plan.rounds):
            for side in sides:
                runs[side.label].append(self._run(workload, side))
        return {
            "section": workload.section,
            "ours": workload.ours.label,
            "other": workload.other.label,
            "bar": workload.bar,
            "limit": {"name": workload.limit, "iops": found.get(workload.limit)} if workload.limit else None,
            "figures": {label: medians(each) for label, each in runs.items()},
            "runs": runs,
        }

    def _sides(self, workload: Workload) -> Iterator[Side]:
        yield workload.ours
        is_peer = workload.other.program == PEER
        if not is_peer or (self.program is not None and not self.plan.ours_only):
            yield workload.other

    def _run(self, workload: Workload, side: Side) -> dict[str, float]:
        """Start a back-end, load it, stop it."""
        disk = self.disks.begin(workload)
        load = {**workload.load, "seconds": self.plan.seconds, **side.load}
        with socket_path() as socket:
            command = command_of(side, disk, socket, self.program)
            with running(command, socket, cores=side.cores) as backend:
                figures = backend.load(
                    load=load, connect=dict(side.connect), cores=side.cores, warm=workload.warm
                )
        figures["lost_pages"] = self.disks.end(workload)
        return figures


def measure(plan: Plan) -> dict[str, Any]:
    """All chosen workloads and the limits."""
    program = None if plan.ours_only else peers.chosen(plan.storage_daemon)
    if program is None and not plan.ours_only:
        print("qemu-storage-daemon is not installed: nothing to compare with", file=sys.stderr)
    with Disks(plan.folder, plan.file_bytes) as disks:
        return Bench(plan, disks, program).measure()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_options(parser)
    arguments = parser.parse_args()
    write_all({"blk": measure(plan_of(arguments))}, arguments)


if __name__ == "__main__":
    main()
