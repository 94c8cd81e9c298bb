from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import disjoint_base

from virtio.network.link import Link

__all__ = ["PythonLink", "find_handler"]

@disjoint_base
class PythonLink(Link):
    @property
    def limit(self) -> int: ...
    @property
    def offloads(self) -> int: ...
    def __init__(
        self,
        handler: Callable[[bytes, dict[str, int]], Any] | None = None,
        *,
        offloads: int = 0,
        limit: int = 4096,
    ) -> None: ...
    def run(self) -> None: ...
    def send(self, frames: Iterable[bytes], queue: int = 0, header: dict[str, int] | None = None) -> int: ...

def find_handler(text: str) -> Callable[[bytes, dict[str, int]], Any]: ...
