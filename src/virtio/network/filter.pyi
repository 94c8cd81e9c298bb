from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink

__all__ = ["FilterLink", "Inward", "stack"]

@disjoint_base
class Inward(Sink): ...

@disjoint_base
class FilterLink(Link):
    @property
    def inner(self) -> Link: ...
    def __init__(self, inner: Link) -> None: ...

def stack(link: Link) -> list[Link]: ...
