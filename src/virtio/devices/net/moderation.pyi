from typing_extensions import disjoint_base

__all__ = ["Moderation"]

@disjoint_base
class Moderation:
    @property
    def max_packets(self) -> int: ...
    @property
    def max_usecs(self) -> int: ...
    def set(self, max_packets: int, max_usecs: int) -> None: ...
