from collections.abc import Callable

from virtio.network.fd_link import FdLink

class DgramLink(FdLink):
    def __init__(
        self, name: str, fd: int, remote: bytes = b"", closing: Callable[[], None] | None = None
    ) -> None: ...
