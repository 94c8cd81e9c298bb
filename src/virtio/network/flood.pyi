from typing_extensions import disjoint_base

from virtio.network.null import NullLink

__all__ = ["FloodLink"]

ETHERNET: bytes
SHORTEST: int

@disjoint_base
class FloodLink(NullLink):
    """Puts bursts of UDP frames into the guest, from a thread of its own."""

    def __init__(self, size: int = 64, burst: int = 32) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def burst(self) -> int: ...

def datagram(size: int) -> bytes: ...
