from collections.abc import Sequence

from typing_extensions import disjoint_base

from virtio.devices.net.toeplitz import Hasher

__all__ = ["FlowSteering", "RssSteering", "Steering"]

@disjoint_base
class Steering:
    def __init__(self, hasher: Hasher | None = None) -> None: ...
    def pick(self, frame: bytes | bytearray | memoryview, time: int = 0) -> tuple[int, int, int]: ...
    def learn(self, pair: int, frame: bytes | bytearray | memoryview, time: int = 0) -> None: ...

@disjoint_base
class FlowSteering(Steering):
    pairs: int
    def __init__(self, pairs: int, hasher: Hasher | None = None) -> None: ...

@disjoint_base
class RssSteering(Steering):
    def __init__(self, hasher: Hasher, table: Sequence[int], unclassified: int) -> None: ...
