from typing import NamedTuple

from typing_extensions import disjoint_base

__all__ = ["Fdb", "Station"]

class Station(NamedTuple):
    vlan: int
    address: str
    port: int
    age: int

@disjoint_base
class Fdb:
    capacity: int
    def __init__(self, size: int = 8192, ageing: int = 300) -> None: ...
    @property
    def ageing(self) -> int: ...
    def see(self, address: str, vlan: int, port: int, now: int) -> int: ...
    def where(self, address: str, vlan: int, now: int) -> int | None: ...
    def flush(self, port: int) -> None: ...
    def stations(self, now: int) -> list[Station]: ...

def parse_address(text: str) -> int: ...
