from typing_extensions import disjoint_base

__all__ = ["Finisher", "finish", "takes_of"]

GUEST_BITS: dict[int, int]
HOST_BITS: dict[int, int]

def takes_of(features: int, *, host: bool = False) -> int: ...
def finish(
    frame: bytes,
    *,
    flags: int = 0,
    gso_type: int = 0,
    gso_size: int = 0,
    csum_start: int = 0,
    csum_offset: int = 0,
) -> list[bytes]: ...

@disjoint_base
class Finisher:
    """Makes finished frames of unfinished ones."""
