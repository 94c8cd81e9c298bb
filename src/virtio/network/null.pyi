from virtio.network.link import Link

__all__ = ["LoopLink", "NullLink"]

OFFLOADS: int

class NullLink(Link): ...
class LoopLink(NullLink): ...
