from collections.abc import Callable

from typing_extensions import disjoint_base

from virtio.network.fd_link import FdLink

__all__ = ["DgramLink"]

@disjoint_base
class DgramLink(FdLink):
    def __init__(
        self, name: str, fd: int, remote: bytes = b"", closing: Callable[[], None] | None = None
    ) -> None: ...
