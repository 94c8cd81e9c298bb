from typing import final

__all__ = ["Delay", "Moderation"]

@final
class Moderation:
    @property
    def max_packets(self) -> int: ...
    @property
    def max_usecs(self) -> int: ...
    def set(self, max_packets: int, max_usecs: int) -> None: ...

@final
class Delay:
    def __init__(self, moderation: Moderation) -> None: ...
