from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink
from virtio.network.switch.fdb import Station
from virtio.network.switch.forwarding import Forwarder
from virtio.network.switch.settings import PortSettings

__all__ = ["COUNTERS", "EVERYTHING", "Port", "Switch"]

COUNTERS: dict[str, int]
EVERYTHING: int

@disjoint_base
class Switch(Forwarder):
    name: str
    def __init__(
        self, name: str = "switch", *, size: int = 8192, ageing: int = 300, forward_reserved: bool = False
    ) -> None: ...
    @property
    def ports(self) -> list[Port]: ...
    def add(self, settings: PortSettings | None = None, kind: type[Port] | None = None) -> Port: ...
    def find(self, name: str) -> Port | None: ...
    def remove(self, port: Port) -> None: ...
    def changed(self) -> None: ...
    def set_clock(self, seconds: int | None) -> None: ...
    def stations(self) -> list[Station]: ...

@disjoint_base
class Port(Link):
    switch: Switch
    settings: PortSettings
    port_name: str
    number: int
    def __init__(self, switch: Switch, settings: PortSettings, number: int) -> None: ...
    @property
    def connected(self) -> bool: ...
    def attached(self) -> Sink | None: ...
