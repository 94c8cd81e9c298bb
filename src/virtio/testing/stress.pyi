from dataclasses import dataclass

from typing_extensions import disjoint_base

from virtio.memory.table import GuestMemory
from virtio.testing.rig import Rig

__all__ = ["Stress", "StressReport", "run"]

TROUBLES: tuple[str, ...]
FLAWS: dict[str | None, int]

@dataclass(frozen=True)
class StressReport:
    trouble: str
    detail: int
    chains: int
    descriptors: int
    kicks: int
    calls: int
    driver_sleeps: int
    device_sleeps: int

def run(rig: Rig, descriptors: int, *, flaw: str | None = None, watchdog: float = 20.0) -> StressReport: ...

@disjoint_base
class Stress:
    detail: int
    descriptors: int
    kicks: int
    driver_sleeps: int
    calls: int
    device_sleeps: int
    def __init__(
        self, rig: Rig, memory: GuestMemory, kick_fd: int, call_fd: int, goal: int, flaw: int, watchdog: int
    ) -> None: ...
    def drive(self) -> None: ...
    def serve(self) -> None: ...
    def report(self) -> StressReport: ...
