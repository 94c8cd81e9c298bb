from collections.abc import Iterable

from typing_extensions import disjoint_base

__all__ = ["ReceiveFilter"]

@disjoint_base
class ReceiveFilter:
    promisc: bool
    allmulti: bool
    alluni: bool
    nomulti: bool
    nouni: bool
    nobcast: bool
    def __init__(
        self,
        macs: Iterable[bytes] = (),
        *,
        vlans: Iterable[int] | None = None,
        promisc: bool = False,
        allmulti: bool = False,
        alluni: bool = False,
        nomulti: bool = False,
        nouni: bool = False,
        nobcast: bool = False,
    ) -> None: ...
    def wants(self, frame: bytes | bytearray | memoryview) -> bool: ...
