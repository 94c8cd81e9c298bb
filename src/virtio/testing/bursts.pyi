from collections.abc import Mapping, Sequence

from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink

__all__ = ["CollectSink", "put_frames", "receive_frames"]

HEADER_FIELDS: tuple[str, ...]

@disjoint_base
class CollectSink(Sink):
    frames: list[tuple[bytes, dict[str, int]]]
    limit: int | None
    def __init__(self, limit: int | None = None) -> None: ...
    def clear(self) -> None: ...

def put_frames(
    sink: Sink,
    frames: Sequence[bytes],
    queue: int = 0,
    header: Mapping[str, int] | None = None,
    cut: Sequence[int] = (),
    times: int = 1,
) -> int: ...
def receive_frames(link: Link, queue: int = 0, budget: int = 64) -> int: ...
