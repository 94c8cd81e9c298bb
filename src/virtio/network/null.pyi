from typing_extensions import disjoint_base

from virtio.network.link import Link

__all__ = ["LoopLink", "NullLink"]

@disjoint_base
class NullLink(Link): ...

@disjoint_base
class LoopLink(NullLink): ...
