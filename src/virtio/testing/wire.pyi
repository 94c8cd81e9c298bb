from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import disjoint_base

from virtio.network.link import Link

__all__ = ["Seen", "Wire"]

@dataclass(frozen=True)
class Seen:
    """A frame, and what its header said is still to be done."""

    data: bytes
    queue: int = 0
    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

@disjoint_base
class Wire(Link):
    """A link that a test holds the other end of."""

    def __init__(self, *, offloads: int = 0, readable: bool = False) -> None: ...
    @property
    def offloads(self) -> int: ...
    def refuse(self, refusing: bool) -> None: ...
    def wait(self, count: int, timeout: float = 20.0) -> list[Seen]: ...
    def send(self, frames: Sequence[bytes | Seen], *, queue: int = 0) -> int: ...
    def offer(self, frames: Sequence[bytes | Seen]) -> None: ...
    @property
    def left(self) -> int: ...
