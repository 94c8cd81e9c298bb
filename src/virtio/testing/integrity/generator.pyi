"""Requests on several queues at once, of which each answer is known beforehand."""

from typing import Final

from typing_extensions import disjoint_base

from virtio.drivers.channel import Channel

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
    sectors_checked: int
    sectors_written: int
    first_wrong: int
    cpu_ns: int
    @property
    def kinds(self) -> dict[int, int]: ...
    @property
    def wrong(self) -> dict[str, int]: ...
    def __init__(
        self,
        channels: list[Channel],
        heads: tuple[int, memoryview],
        data: tuple[int, memoryview],
        *,
        depth: int,
        span: int,
        read_percent: int = 50,
        discards: bool = False,
        zeroes: bool = False,
        seed: int = 1,
    ) -> None: ...
    def allow(self, requests: int) -> None: ...
    def sweep(self) -> None: ...
    def mingle(self, flush_every: int, range_every: int) -> None: ...
    def run(self, nanoseconds: int) -> bool: ...
