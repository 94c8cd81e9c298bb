from typing_extensions import disjoint_base

__all__ = ["Hasher"]

@disjoint_base
class Hasher:
    types: int
    tunnels: int
    def __init__(self, key: bytes, types: int, tunnels: int = 0) -> None: ...
    def hash_of(self, frame: bytes | bytearray | memoryview) -> tuple[int, int]: ...
