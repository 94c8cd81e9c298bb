from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink

__all__ = ["HEADER_FIELDS", "Wire", "WireFrame", "put_frames"]

HEADER_FIELDS: tuple[str, ...]

@dataclass(frozen=True)
class WireFrame:
    """A frame without its checksum (FCS), and what of it is still to be computed (struct virtio_net_hdr)."""

    data: bytes
    queue: int = 0
    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    @property
    def header(self) -> dict[str, int]: ...

def put_frames(
    sink: Sink,
    frames: Sequence[bytes | WireFrame],
    queue: int = 0,
    header: Mapping[str, int] | None = None,
    cut: Sequence[int] | int | None = None,
    times: int = 1,
) -> int: ...

@disjoint_base
class Wire(Link):
    """What a NIC connects to, or what stands for one at a link."""

    room: int | None
    def __init__(
        self,
        link: Link | None = None,
        queues: int = 1,
        *,
        room: int | None = None,
        offloads: int = 0,
        readable: bool = False,
    ) -> None: ...
    @property
    def frames(self) -> list[WireFrame]: ...
    @property
    def link(self) -> Link | None: ...
    @property
    def offloads(self) -> int: ...
    def take(self, count: int | None = None) -> list[WireFrame]: ...
    def wait(self, count: int = 1, timeout: float = 20.0, queue: int = 0) -> list[WireFrame]: ...
    def deliver(self, queue: int = 0, budget: int = 64) -> int: ...
    def send(
        self,
        frames: Sequence[bytes | WireFrame],
        *,
        queue: int = 0,
        cut: Sequence[int] | int | None = None,
        times: int = 1,
    ) -> int: ...
    def offer(self, frames: Sequence[bytes | WireFrame]) -> None: ...
    @property
    def fetcher(self) -> str: ...
    @property
    def left(self) -> int: ...
