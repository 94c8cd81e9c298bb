"""Requests on several queues at once, of which each answer is known beforehand."""

from typing import Final

from typing_extensions import disjoint_base

from virtio.drivers.channel import Channel
from virtio.testing.integrity.sectors import Sectors

__all__ = ["HEAD_SIZE", "LARGEST", "Generator"]

HEAD_SIZE: Final[int]
LARGEST: Final[int]

@disjoint_base
class Generator:
    depth: int
    span: int
    left: int
    in_flight: int
    broken: int
    completed: int
    errors: int
    last_status: int
    cpu_ns: int
    @property
    def kinds(self) -> dict[int, int]: ...
    @property
    def table(self) -> Sectors: ...
    def __init__(
        self,
        channels: list[Channel],
        heads: tuple[int, memoryview],
        data: tuple[int, memoryview],
        *,
        depth: int,
        span: int,
        largest: int = ...,
        read_percent: int = 50,
        discards: bool = False,
        zeroes: bool = False,
        seed: int = 1,
    ) -> None: ...
    def allow(self, requests: int) -> None: ...
    def sweep(self) -> None: ...
    def mingle(self, flush_every: int, range_every: int) -> None: ...
    def run(self, nanoseconds: int) -> bool: ...
