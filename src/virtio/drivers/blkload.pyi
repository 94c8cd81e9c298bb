"""A load generator for block devices: one queue, one thread, no GIL."""

from collections.abc import Sequence
from typing import Final, final

from virtio.drivers.channel import Channel

__all__ = ["BUCKET_COUNT", "HEAD_SIZE", "MOST_TOGETHER", "BlkLoad", "bucket_limit", "run_together"]

BUCKET_COUNT: Final[int]
HEAD_SIZE: Final[int]
MOST_TOGETHER: Final[int]

def bucket_limit(bucket: int) -> int: ...

@final
class BlkLoad:
    depth: int
    block_size: int
    first_block: int
    blocks: int
    left: int
    in_flight: int
    completed: int
    errors: int
    mismatches: int
    first_mismatch: int
    cpu_ns: int
    elapsed_ns: int
    max_latency_ns: int
    last_status: int
    @property
    def fault(self) -> int: ...
    def __init__(
        self,
        channel: Channel,
        heads: tuple[int, memoryview],
        data: tuple[int, memoryview],
        *,
        depth: int,
        block_size: int,
        blocks: int,
        first_block: int = 0,
        random: bool = True,
        read_percent: int = 100,
        polling: bool = False,
        verify: bool = False,
        seed: int = 1,
    ) -> None: ...
    def histogram(self) -> list[int]: ...
    def allow(self, requests: int) -> None: ...
    def run(self, nanoseconds: int) -> bool: ...

def run_together(loads: Sequence[BlkLoad], nanoseconds: int) -> BlkLoad | None: ...
