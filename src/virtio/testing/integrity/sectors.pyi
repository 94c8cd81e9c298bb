"""What each sector of the tested span must hold, and who uses it at the moment."""

from typing_extensions import disjoint_base

__all__ = ["Sectors"]

@disjoint_base
class Sectors:
    span: int
    checked: int
    written: int
    first_wrong: int
    @property
    def wrong(self) -> dict[str, int]: ...
    def __init__(self, span: int, salt: int) -> None: ...
