from collections.abc import Callable

from typing_extensions import disjoint_base

from virtio.network.link import Link

__all__ = ["FdLink"]

@disjoint_base
class FdLink(Link):
    lane_count: int
    header_size: int
    last_error: int
    def __init__(self, lanes: int = 1, *, header_size: int = 0) -> None: ...
    def set_fd(self, queue: int, fd: int) -> None: ...
    def fd(self, queue: int) -> int: ...
    def set_carrier(self, up: bool) -> None: ...
    def on_carrier(self, tell: Callable[[bool], None] | None) -> None: ...
