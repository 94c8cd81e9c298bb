from typing_extensions import disjoint_base

from virtio.network.filter import FilterLink
from virtio.network.impair.pipe import Pipe
from virtio.network.impair.settings import Impairment
from virtio.network.link import Link

__all__ = ["ImpairLink"]

CSUM_FEATURES: int

@disjoint_base
class ImpairLink(FilterLink):
    @property
    def inwards(self) -> Pipe: ...
    @property
    def outwards(self) -> Pipe: ...
    def __init__(
        self,
        inner: Link,
        inwards: Impairment | None = None,
        outwards: Impairment | None = None,
        *,
        seed: int | None = None,
        segments: bool = True,
    ) -> None: ...
    @property
    def seed(self) -> int: ...
    def set(self, direction: str = "both", **options: str | None) -> None: ...
