from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink

__all__ = ["Inlet", "Outlet", "PipeLink"]

@disjoint_base
class Outlet(Sink):
    fd: int
    def __init__(self, fd: int) -> None: ...
    def lost(self) -> int: ...

@disjoint_base
class Inlet:
    invalid: int
    dropped: int
    def pump(self, fd: int, sink: Sink) -> int: ...

@disjoint_base
class PipeLink(Link):
    def __init__(self, fd: int) -> None: ...
    def run(self, wake: int) -> int: ...
    def counters(self) -> dict[str, int]: ...
