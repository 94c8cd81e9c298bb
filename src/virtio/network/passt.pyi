from typing_extensions import disjoint_base

from virtio.network.stream import StreamLink

__all__ = ["PasstLink"]

@disjoint_base
class PasstLink(StreamLink):
    def __init__(self, mtu: int | None = None) -> None: ...
