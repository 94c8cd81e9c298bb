from typing_extensions import disjoint_base

from virtio.network.link import Link, Sink
from virtio.network.switch.fabric import Port

__all__ = ["Uplink"]

@disjoint_base
class Uplink(Sink):
    link: Link
    port: Port
    url: str
    def __init__(self, link: Link, port: Port, url: str = "") -> None: ...
    def start(self) -> None: ...
    def watch(self, fd: int) -> None: ...
    def stats(self) -> dict[str, int]: ...
    def close(self) -> None: ...
