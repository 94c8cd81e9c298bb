from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink

__all__ = ["NO_HEADER", "CollectSink", "Collected", "Header"]

NO_HEADER: Header

class Header(NamedTuple):
    flags: int = ...
    gso_type: int = ...
    hdr_len: int = ...
    gso_size: int = ...
    csum_start: int = ...
    csum_offset: int = ...

class Collected(NamedTuple):
    data: bytes
    header: Header
    queue: int

@disjoint_base
class CollectSink(Sink):
    link: Link
    room: int | None
    def __init__(self, link: Link | None = None, queues: int = 1, *, room: int | None = None) -> None: ...
    def put_frames(
        self,
        frames: Sequence[bytes],
        queue: int = 0,
        *,
        headers: Sequence[Header] = (),
        piece: int = 65536,
        sink: Sink | None = None,
    ) -> int: ...
    def receive(self, queue: int = 0, budget: int = 64) -> int: ...
    def take(self) -> list[Collected]: ...
    def wait(self, count: int = 1, timeout: float = 10.0, queue: int = 0) -> list[Collected]: ...
